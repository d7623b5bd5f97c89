"""Turn the chunks of one streamed answer into events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from omnilmm.conversation import Thought
from omnilmm.engine.events import Event, Finished, Progress, TextDelta, ThoughtDelta, Timings, Usage
from omnilmm.engine.thoughts import ThoughtSplitter

THOUGHTS = ("reasoning_content", "reasoning")  # names of the thought: most servers; Ollama and newer versions of vLLM


class RemoteAnswer:
    """The state of one answer while it is streamed.

    Nothing in a chunk is trusted to be there, or to be of the right type.

    Args:
        began_s: when the request was sent, on the monotonic clock.
        waited_s: how long it had waited before that.

    Attributes:
        text: the answer so far.
        has_begun: whether any text of the answer or its thought has arrived.
    """

    def __init__(self, began_s: float, waited_s: float = 0.0) -> None:
        self._began_s, self._waited_s = began_s, waited_s
        self._first_s = self._last_s = 0.0
        self._thought_s = self._now_s = 0.0
        self._splitter = ThoughtSplitter(is_open=False, by_text=True)
        self._is_thought_apart = False  # the server sends it in a field of its own
        self.text = self._thought = ""
        self._tokens = self._thought_tokens = 0
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}

    @property
    def has_begun(self) -> bool:
        """Whether any text has arrived."""
        return bool(self._first_s)

    def add(self, chunk: dict[str, Any], arrived_s: float) -> Iterator[Event]:
        """Yield the events of a chunk, or of a whole answer in one piece.

        Args:
            chunk: the chunk.
            arrived_s: when it arrived, on the monotonic clock: the consumer may take its time.
        """
        self._now_s = arrived_s
        self._count(chunk)
        if progress := _prefill(chunk):
            yield progress
        choice = _first_choice(chunk)
        delta = _dict(choice.get("delta")) or _dict(choice.get("message"))
        yield from self._thought_of(delta)
        content = delta.get("content")
        if isinstance(content, str) and content:
            self._note_time()
            yield from self._split(self._splitter.feed(content))
        if isinstance(reason := choice.get("finish_reason"), str):
            self._reason = reason

    def finish(self) -> Iterator[Event]:
        """Yield the text that was held back until the end."""
        yield from self._split(self._splitter.finish())

    def finished(self, dropped: int = 0, without_effect: tuple[str, ...] = ()) -> Finished:
        """Return the whole answer; call `finish` first.

        Args:
            dropped: number of oldest messages that were not sent.
            without_effect: options that the server refuses.
        """
        now_s = time.monotonic()
        first_s = self._first_s or now_s
        return Finished(
            text=self.text,
            reason="length" if self._reason == "length" else "end",
            usage=self._counts(),
            timings=Timings(self._waited_s, first_s - self._began_s, (self._last_s or now_s) - self._began_s),
            dropped_messages=dropped + _number(self._usage.get("dropped_messages")),  # there, if it is our own API
            thought=self._whole_thought(),
            without_effect=without_effect,
        )

    def _thought_of(self, delta: dict[str, Any]) -> Iterator[Event]:
        thought = next((text for name in THOUGHTS if isinstance(text := delta.get(name), str) and text), "")
        if thought:
            self._note_time()
            self._is_thought_apart = True
            yield from self._split([(True, thought)])

    def _split(self, deltas: list[tuple[bool, str]]) -> Iterator[Event]:
        for is_thought, text in deltas:
            if is_thought:
                self._thought += text
                self._thought_s, self._thought_tokens = self._now_s, self._tokens
                yield ThoughtDelta(text, self._tokens)
            else:
                text = text if self.text or not self._is_thought_apart else text.lstrip()
                self.text += text
                if text:
                    yield TextDelta(text, self._tokens)

    def _note_time(self) -> None:
        self._last_s = self._now_s
        self._first_s = self._first_s or self._last_s

    def _whole_thought(self) -> Thought | None:
        if not self._thought.strip():
            return None
        details = _dict(self._usage.get("completion_tokens_details"))
        tokens = _number(details.get("reasoning_tokens")) or self._thought_tokens
        is_closed = bool(self.text) or self._reason != "length"
        return Thought(self._thought.strip(), tokens, max(self._thought_s - self._first_s, 0.0), is_closed)

    def _count(self, chunk: dict[str, Any]) -> None:
        """Take over token counts, which servers send with each chunk, in one of their own, or not at all."""
        usage = _dict(chunk.get("usage"))
        self._usage.update(usage)
        timings = _dict(chunk.get("timings"))  # llama.cpp's
        self._tokens = _number(usage.get("completion_tokens")) or _number(timings.get("predicted_n")) or self._tokens

    def _counts(self) -> Usage:
        usage = self._usage
        prompt, pictures = _number(usage.get("prompt_tokens")), _number(usage.get("picture_tokens"))
        cached = _number(_dict(usage.get("prompt_tokens_details")).get("cached_tokens"))
        return Usage(max(prompt - pictures, 0), pictures, self._tokens, min(cached, prompt))


def _prefill(chunk: dict[str, Any]) -> Progress | None:
    """Return the progress of llama.cpp's `return_progress`."""
    found = _dict(chunk.get("prompt_progress"))
    total, cached = _number(found.get("total")), _number(found.get("cache"))
    return Progress("prefill", max(_number(found.get("processed")) - cached, 0), total - cached) if total else None


def _first_choice(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return the choice with index 0: of several, as with vLLM's beam search, it is the best."""
    choices = chunk.get("choices")
    found = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    return next((one for one in found if one.get("index", 0) == 0), {})


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
