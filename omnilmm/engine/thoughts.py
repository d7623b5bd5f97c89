"""What a model thinks before it answers, kept apart from the answer.

    ids ── marks by their ids, or by their text ──> ThoughtDelta text, … TextDelta text, …

Templates open a thought with `<think>` and close it with `</think>`, as Qwen3's does. Where a mark is one token of the
checkpoint's tokenizer, that token alone is one, and a model that spells it is not taken for closing its thought; else
it is found in the text, also where it comes in pieces. White space around a thought and before the answer is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from omnilmm.engine.text import TextStream
from omnilmm.prompts.chat_template import CLOSE, OPEN

Place = Literal["start", "thought", "after", "answer"]
Delta = tuple[bool, str]  # whether it is of the thought, and the text


@dataclass(frozen=True)
class ThinkingFormat:
    """How a checkpoint's thoughts are asked for, and marked.

    Attributes:
        default: whether it thinks where nobody says; None where its template has no switch.
        opened: for which wishes the prompt itself opens the thought.
        ids: of the two marks; None where one of them is several tokens.
    """

    default: bool | None
    opened: frozenset[bool]
    ids: tuple[int, int] | None

    def wish(self, asked: bool | None) -> bool:
        """Whether to think, given what was asked for."""
        return bool(self.default if asked is None or self.default is None else asked)


def mark_ids(tokenizer: Any) -> tuple[int, int] | None:
    """The ids of both marks, where each is one token."""
    added = tokenizer.get_added_vocab()
    return (added[OPEN], added[CLOSE]) if OPEN in added and CLOSE in added else None


class ThoughtSplitter:
    """Text in pieces -> deltas of the thought and of the answer.

    Args:
        is_open: the prompt has opened the thought.
        by_text: look for the marks in the text; else `open` and `close` are called.

    Attributes:
        place: where the next piece belongs.
    """

    def __init__(self, *, is_open: bool, by_text: bool) -> None:
        self.place: Place = "thought" if is_open else "start"
        self._by_text = by_text
        self._begun = False  # something of the thought was given
        self._held = ""  # white space that may be at an end, and what may become a mark

    def feed(self, text: str) -> list[Delta]:
        """More text; returns what is certain by now."""
        self._held += text
        deltas: list[Delta] = []
        while True:
            place = self.place
            deltas += self._advance()
            if self.place == place:
                return deltas

    def open(self) -> bool:
        """The opening mark; returns whether it is one here."""
        is_first = self.place in ("start", "thought") and not self._begun and not self._held.strip()
        if is_first:
            self.place, self._held = "thought", ""
        return is_first

    def close(self) -> bool:
        """The closing mark; returns whether it is one here."""
        if self.place != "thought" and (self.place != "start" or self._held.strip()):
            return False
        self.place, self._held = "after", ""
        return True

    def finish(self) -> list[Delta]:
        """What was held back and is no mark, at the end of the answer."""
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
            said, self._held, self.place = self._held[:end].rstrip(), self._held[end + len(CLOSE) :], "after"
        else:
            said = (self._held[: len(self._held) - self._partial()]).rstrip()
            self._held = self._held[len(said) :]
        self._begun = self._begun or bool(said)
        return [(True, said)] if said else []

    def _partial(self) -> int:
        """How much of the end may become the closing mark."""
        if not self._by_text:
            return 0
        return next((n for n in range(len(CLOSE) - 1, 0, -1) if self._held.endswith(CLOSE[:n])), 0)


class AnswerStream:
    """Token ids of one answer -> its text and its thought, growing.

    Args:
        tokenizer: a transformers tokenizer.
        suppressed: tokens that are no text.
        thinking: how thoughts are marked; None for a model without.
        is_open: the prompt has opened the thought.

    Attributes:
        text, thought: so far.
        thought_tokens: of the thought, marks included.
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
        """Whether the thought is open."""
        return self._splitter is not None and self._splitter.place == "thought"

    def add(self, ids: Iterable[int]) -> list[Delta]:
        """Take more ids, up to an end token; returns what has become whole of both."""
        deltas: list[Delta] = []
        for token in ids:
            was_open = self.in_thought
            deltas += self._mark(token) if self._is_mark(token) else self._word(token)
            self.thought_tokens += was_open or self.in_thought
        return self._given(deltas)

    def finish(self) -> list[Delta]:
        """The rest of both."""
        deltas = self._flushed()
        return self._given(deltas if self._splitter is None else [*deltas, *self._splitter.finish()])

    def _is_mark(self, token: int) -> bool:
        return self._marks is not None and token in self._marks

    def _mark(self, token: int) -> list[Delta]:
        """A mark where it is one; elsewhere it is text, or suppressed."""
        if self._splitter is None or self._marks is None or self._splitter.place in ("after", "answer"):
            return self._word(token)
        before = self._flushed()
        is_taken = self._splitter.open() if token == self._marks[0] else self._splitter.close()
        return before if is_taken else [*before, *self._word(token)]

    def _word(self, token: int) -> list[Delta]:
        return [] if token in self._suppressed else self._split(self._stream.add(token))

    def _flushed(self) -> list[Delta]:
        """The rest of what was decoded together; what follows is decoded apart."""
        rest, self._stream = self._stream.finish(), TextStream(self._tokenizer)
        return self._split(rest)

    def _split(self, text: str) -> list[Delta]:
        if self._splitter is None:
            return [(False, text)] if text else []
        return self._splitter.feed(text) if text else []

    def _given(self, deltas: Sequence[Delta]) -> list[Delta]:
        """One delta of each kind at most."""
        thought, text = ("".join(said for of_thought, said in deltas if of_thought is kind) for kind in (True, False))
        self.thought += thought
        self.text += text
        return [(kind, said) for kind, said in ((True, thought), (False, text)) if said]  # a thought comes first
