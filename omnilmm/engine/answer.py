"""Turns the token ids of one answer into events: deltas of text and thought if sampling, previews with beam search."""

from __future__ import annotations

import time
from collections.abc import Iterator

from omnilmm.conversation import Thought
from omnilmm.engine.backends.base import Backend, Request
from omnilmm.engine.backends.stepwise import Ids
from omnilmm.engine.events import Preview, TextDelta, ThoughtDelta
from omnilmm.engine.options import BeamSearch
from omnilmm.engine.text import StopTexts
from omnilmm.engine.thoughts import AnswerStream, Delta


class Answer:
    """The state of one answer while it is generated.

    Args:
        backend: the model's backend.
        request: the request being answered.

    Attributes:
        ids: all token ids generated so far.
    """

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._is_searched = isinstance(request.options, BeamSearch)
        thinking = backend.thinking
        self._is_open = thinking is not None and thinking.is_enabled(request.options.thinking) in thinking.opened
        self.ids: Ids = []
        self._stream = self._new_stream()
        self._stops = StopTexts(request.options.stop)
        self._first_s = self._thought_s = 0.0  # times of the first token and of the last one inside the thought

    @property
    def text(self) -> str:
        """The answer without its thought."""
        return self._stops.text

    @property
    def thought(self) -> Thought | None:
        """The thought before the answer; None if there is none."""
        stream = self._stream
        if not stream.thought:
            return None
        return Thought(stream.thought, stream.thought_tokens, self._thought_s - self._first_s, not stream.in_thought)

    @property
    def has_stopped(self) -> bool:
        """Whether a stop text was reached."""
        return self._stops.is_over

    @property
    def has_ended(self) -> bool:
        """Whether the model generated a stop token."""
        return self._end(self.ids) is not None

    def add(self, ids: Ids) -> Iterator[TextDelta | ThoughtDelta | Preview]:
        """Yield the events for what is new, given all ids generated so far."""
        new, self.ids = ids[len(self.ids) :], ids
        deltas: list[Delta] = []
        if self._is_searched:
            self._stream = self._new_stream()
            self._stream.add(self._before_stop(ids))
            self._stream.finish()
        else:
            deltas = self._stream.add(self._before_stop(new))
        self._note_time()
        if self._is_searched:
            yield Preview(self._stream.text, len(ids), self.thought)
        yield from self._events(deltas)

    def finish(self) -> Iterator[TextDelta | ThoughtDelta]:
        """Yield the text that was held back until the end; afterwards `text` and `thought` are complete."""
        if self._is_searched:
            self._stops.add(self._stream.text)
            self._stops.finish()
            return
        yield from self._events(self._stream.finish())
        if rest := self._stops.finish():
            yield TextDelta(rest, len(self.ids))

    def _note_time(self) -> None:
        now_s = time.monotonic()
        self._first_s = self._first_s or now_s
        if self._stream.in_thought or not self._thought_s:
            self._thought_s = now_s

    def _events(self, deltas: list[Delta]) -> Iterator[TextDelta | ThoughtDelta]:
        for is_thought, text in deltas:
            if is_thought:
                yield ThoughtDelta(text, len(self.ids))
            elif shown := self._stops.add(text):
                yield TextDelta(shown, len(self.ids))

    def _new_stream(self) -> AnswerStream:
        backend = self._backend
        return AnswerStream(backend.tokenizer, backend.suppressed_ids, backend.thinking, is_open=self._is_open)

    def _end(self, ids: Ids) -> int | None:
        """Return the position of the first stop token."""
        return next((position for position, token in enumerate(ids) if token in self._backend.stop_ids), None)

    def _before_stop(self, ids: Ids) -> Ids:
        """Return the ids before the first stop token."""
        return ids[: self._end(ids)]
