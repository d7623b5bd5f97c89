"""The ids of one answer -> its events: text that grows when sampling, previews with beam search, its thought apart."""

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
    """What was said so far.

    Args:
        backend: of the model.
        request: that is answered.

    Attributes:
        ids: all of them.
    """

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._is_searched = isinstance(request.options, BeamSearch)
        thinking = backend.thinking
        self._is_open = thinking is not None and thinking.wish(request.options.thinking) in thinking.opened
        self.ids: Ids = []
        self._stream = self._new_stream()
        self._stops = StopTexts(request.options.stop)
        self._first_s = self._thought_s = 0.0  # of the thought: its first token, and when it was last seen open

    @property
    def text(self) -> str:
        """The answer without its thought."""
        return self._stops.text

    @property
    def thought(self) -> Thought | None:
        """Before the answer; None where nothing was thought."""
        stream = self._stream
        if not stream.thought:
            return None
        return Thought(stream.thought, stream.thought_tokens, self._thought_s - self._first_s, not stream.in_thought)

    @property
    def has_stopped(self) -> bool:
        """Whether one of the texts came before which it has to stop."""
        return self._stops.is_over

    @property
    def has_ended(self) -> bool:
        """Whether the model itself ended it."""
        return self._end(self.ids) is not None

    def add(self, ids: Ids) -> Iterator[TextDelta | ThoughtDelta | Preview]:
        """What is new, given all ids so far."""
        new, self.ids = ids[len(self.ids) :], ids
        deltas: list[Delta] = []
        if self._is_searched:
            self._stream = self._new_stream()
            self._stream.add(self._spoken(ids))
            self._stream.finish()
        else:
            deltas = self._stream.add(self._spoken(new))
        self._look_at_the_clock()
        if self._is_searched:
            yield Preview(self._stream.text, len(ids), self.thought)
        yield from self._events(deltas)

    def finish(self) -> Iterator[TextDelta | ThoughtDelta]:
        """What was held back until the end; `text` and `thought` are whole then."""
        if self._is_searched:
            self._stops.add(self._stream.text)
            self._stops.finish()
            return
        yield from self._events(self._stream.finish())
        if rest := self._stops.finish():
            yield TextDelta(rest, len(self.ids))

    def _look_at_the_clock(self) -> None:
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
        """Where the first end token is."""
        return next((position for position, token in enumerate(ids) if token in self._backend.stop_ids), None)

    def _spoken(self, ids: Ids) -> Ids:
        """Ids up to the first end token."""
        return ids[: self._end(ids)]
