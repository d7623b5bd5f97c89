"""Separates a model's thought from the answer that follows it.

    ids ── marks found by id, or in the text ──> ThoughtDelta text, … TextDelta text, …

Thoughts begin with `<think>` and end with `</think>`, as in Qwen3's template. Where both marks are single tokens of the
checkpoint's tokenizer, only those tokens count, and a mark that the model spells out is plain text; otherwise marks are
searched for in the text, even if split over tokens. White space around a thought and before the answer is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from omnilmm.engine.text import TextStream
from omnilmm.prompts.chat_template import CLOSE, OPEN

Place = Literal["start", "thought", "after", "answer"]
Delta = tuple[bool, str]  # whether the text belongs to the thought, and the text


@dataclass(frozen=True)
class ThinkingFormat:
    """How thinking is switched on for a checkpoint, and how its thoughts are marked.

    Attributes:
        default: whether the model thinks by default; None if its template has no switch.
        opened: the values of the switch for which the prompt itself contains the opening mark.
        ids: token ids of the opening and closing mark; None if they are not single tokens.
    """

    default: bool | None
    opened: frozenset[bool]
    ids: tuple[int, int] | None

    def is_enabled(self, asked: bool | None) -> bool:
        """Return whether to think, given the requested setting; None requests the default."""
        return bool(self.default if asked is None or self.default is None else asked)


def mark_ids(tokenizer: Any) -> tuple[int, int] | None:
    """Return the token ids of both marks; None unless each is a single token."""
    added = tokenizer.get_added_vocab()
    return (added[OPEN], added[CLOSE]) if OPEN in added and CLOSE in added else None


class ThoughtSplitter:
    """Splits streamed text into deltas of the thought and of the answer.

    Args:
        is_open: whether the prompt has opened the thought.
        by_text: whether to search for the marks in the text; otherwise the caller calls `open` and `close`.

    Attributes:
        place: where the next piece of text belongs.
    """

    def __init__(self, *, is_open: bool, by_text: bool) -> None:
        self.place: Place = "thought" if is_open else "start"
        self._by_text = by_text
        self._begun = False  # whether text of the thought has been returned
        self._held = ""  # white space that may turn out to be trailing, and text that may become a mark

    def feed(self, text: str) -> list[Delta]:
        """Add text; returns the deltas that are certain by now."""
        self._held += text
        deltas: list[Delta] = []
        while True:
            place = self.place
            deltas += self._advance()
            if self.place == place:
                return deltas

    def open(self) -> bool:
        """Handle an opening mark; returns whether it opens the thought here."""
        is_first = self.place in ("start", "thought") and not self._begun and not self._held.strip()
        if is_first:
            self.place, self._held = "thought", ""
        return is_first

    def close(self) -> bool:
        """Handle a closing mark; returns whether it closes the thought here."""
        if self.place != "thought" and (self.place != "start" or self._held.strip()):
            return False
        self.place, self._held = "after", ""
        return True

    def finish(self) -> list[Delta]:
        """Return the text still held back at the end of the answer."""
        held, self._held = self._held, ""
        if self.place == "thought":
            held = held.strip() if not self._begun else held.rstrip()
        return [(self.place == "thought", held)] if held and self.place != "after" else []

    def _advance(self) -> list[Delta]:
        match self.place:
            case "start":
                return self._at_start()
            case "thought":
                return self._in_thought()
            case "after":
                self._held = self._held.lstrip()
                self.place = "answer" if self._held else "after"
                return []
        held, self._held = self._held, ""
        return [(False, held)] if held else []

    def _at_start(self) -> list[Delta]:
        begins = self._held.lstrip()
        if self._by_text and begins.startswith(OPEN):
            self.place, self._held = "thought", begins[len(OPEN) :]
        elif begins and not (self._by_text and OPEN.startswith(begins)):
            self.place = "answer"
        return []

    def _in_thought(self) -> list[Delta]:
        if not self._begun:
            self._held = self._held.lstrip()
        end = self._held.find(CLOSE) if self._by_text else -1
        if end >= 0:
            text, self._held, self.place = self._held[:end].rstrip(), self._held[end + len(CLOSE) :], "after"
        else:
            text = (self._held[: len(self._held) - self._partial()]).rstrip()
            self._held = self._held[len(text) :]
        self._begun = self._begun or bool(text)
        return [(True, text)] if text else []

    def _partial(self) -> int:
        """Return how many characters at the end may be the beginning of the closing mark."""
        if not self._by_text:
            return 0
        return next((n for n in range(len(CLOSE) - 1, 0, -1) if self._held.endswith(CLOSE[:n])), 0)


class AnswerStream:
    """Decodes the token ids of one answer incrementally into its text and its thought.

    Args:
        tokenizer: a transformers tokenizer.
        suppressed: token ids that are left out of the text.
        thinking: how thoughts are marked; None for a model that does not think.
        is_open: whether the prompt has opened the thought.

    Attributes:
        text, thought: the text of the answer and of the thought so far.
        thought_tokens: number of tokens of the thought, marks included.
    """

    def __init__(
        self,
        tokenizer: Any,
        suppressed: Set[int] = frozenset(),
        thinking: ThinkingFormat | None = None,
        *,
        is_open: bool = False,
    ) -> None:
        self._tokenizer, self._suppressed = tokenizer, suppressed
        self._marks = thinking.ids if thinking else None
        by_text = thinking is not None and thinking.ids is None
        self._splitter = ThoughtSplitter(is_open=is_open, by_text=by_text) if thinking else None
        self._stream = TextStream(tokenizer)
        self.text = self.thought = ""
        self.thought_tokens = 0

    @property
    def in_thought(self) -> bool:
        """Whether the next token belongs to the thought."""
        return self._splitter is not None and self._splitter.place == "thought"

    def add(self, ids: Iterable[int]) -> list[Delta]:
        """Add ids, without a stop token; returns the text of both that has become complete."""
        deltas: list[Delta] = []
        for token in ids:
            was_open = self.in_thought
            deltas += self._mark(token) if self._is_mark(token) else self._word(token)
            self.thought_tokens += was_open or self.in_thought
        return self._given(deltas)

    def finish(self) -> list[Delta]:
        """Return the rest of both."""
        deltas = self._flushed()
        return self._given(deltas if self._splitter is None else [*deltas, *self._splitter.finish()])

    def _is_mark(self, token: int) -> bool:
        return self._marks is not None and token in self._marks

    def _mark(self, token: int) -> list[Delta]:
        """Handle a mark token; one that opens or closes nothing is ordinary text, or suppressed."""
        if self._splitter is None or self._marks is None or self._splitter.place in ("after", "answer"):
            return self._word(token)
        before = self._flushed()
        is_taken = self._splitter.open() if token == self._marks[0] else self._splitter.close()
        return before if is_taken else [*before, *self._word(token)]

    def _word(self, token: int) -> list[Delta]:
        return [] if token in self._suppressed else self._split(self._stream.add(token))

    def _flushed(self) -> list[Delta]:
        """Finish the current text stream and start a new one, so that what follows is decoded separately."""
        rest, self._stream = self._stream.finish(), TextStream(self._tokenizer)
        return self._split(rest)

    def _split(self, text: str) -> list[Delta]:
        if self._splitter is None:
            return [(False, text)] if text else []
        return self._splitter.feed(text) if text else []

    def _given(self, deltas: Sequence[Delta]) -> list[Delta]:
        """Record the deltas and merge them into at most one of each kind."""
        thought, text = ("".join(text for of_thought, text in deltas if of_thought is kind) for kind in (True, False))
        self.thought += thought
        self.text += text
        return [(kind, text) for kind, text in ((True, thought), (False, text)) if text]  # a thought comes first
