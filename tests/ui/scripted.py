"""An engine that says what a test wants it to say, when it wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable, Iterable

from omnilmm.catalog import BUILT_IN, ModelCard
from omnilmm.conversation import Conversation, Picture, Thought
from omnilmm.engine.events import Event, Finished, PictureSlice, Progress, TextDelta, ThoughtDelta, Timings, Usage
from omnilmm.engine.options import Options
from omnilmm.hardware import Choice
from omnilmm.model_lookup import find
from tests.waiting import HOLD_S

Script = Callable[[Conversation], Iterable[Event]]
Slices = tuple[PictureSlice, ...]


def finished(text: str, **more: object) -> Finished:
    usage, timings = Usage(10, 25, 9), Timings(0.0, 0.5, 2.5)
    return Finished(**{"text": text, "reason": "end", "usage": usage, "timings": timings, **more})  # type: ignore[arg-type]


def echo(conversation: Conversation) -> Iterable[Event]:
    """Says the last question word by word."""
    words = conversation.messages[-1].text.split(" ")
    for number, word in enumerate(words):
        yield TextDelta(word if number == 0 else f" {word}")
    yield finished(" ".join(words))


def saying(answer: str) -> Script:
    """Always the same answer."""
    return lambda _: (TextDelta(answer), finished(answer))


class Held:
    """Says the first part of an answer, and the rest when it is let go on.

    Attributes:
        waits: set once whoever asked has taken the first part and wants more.
        goes_on: set by the test.
    """

    def __init__(self, first: str, rest: str) -> None:
        self.first, self.rest = first, rest
        self.waits, self.goes_on = threading.Event(), threading.Event()

    def __call__(self, _: Conversation) -> Iterable[Event]:
        """See `Script`."""
        yield TextDelta(self.first)
        self.waits.set()
        assert self.goes_on.wait(HOLD_S)
        yield TextDelta(self.rest)
        yield finished(self.first + self.rest)


def capable(**more: object) -> ModelCard:
    """A card of a model that can do everything a page has something for."""
    able = {"system_prompt": True, "several_pictures": True, "boxes": True}
    return find(BUILT_IN).model_copy(update=able | more)


def slices_as_asked(options: Options | None) -> Slices:
    """An overview and as many slices as are allowed, with four times as many tokens for finer detail."""
    slices, tokens = (options.max_slices or 9, 256 if options.finer_detail else 64) if options else (9, 64)
    return tuple(PictureSlice((0, 0, 20, 20), 112, 112, tokens) for _ in range(1 + slices))


class ScriptedEngine:
    """Says what its script says.

    Attributes:
        asked: the conversations it was given, and with which options.
        closed: how many of its streams were closed or came to their end.
        owners: who asked, in order.
        forgotten: the owners that it was to forget, in order.
        picture_slices: the slices of any picture, fixed or by the options; None if it reports none.
    """

    def __init__(self, script: Script = echo, card: ModelCard | None = None) -> None:
        self.script, self.card = script, card or find(BUILT_IN)
        self.memory_bytes = 3 * 2**30
        self.device, self.dtype = Choice("cpu", "it is a test"), Choice("fp32", "it is a test")
        self.asked: list[tuple[Conversation, Options | None]] = []
        self.closed = 0
        self.owners: list[Hashable] = []
        self.forgotten: list[Hashable] = []
        self.picture_slices: Slices | Callable[[Options | None], Slices] | None = None

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        self.asked.append((conversation, options))
        self.owners.append(owner)
        try:
            yield from self.script(conversation)
        finally:
            self.closed += 1

    def forget(self, owner: Hashable) -> None:
        self.forgotten.append(owner)

    def slices(self, picture: Picture, options: Options | None = None) -> Slices | None:
        return self.picture_slices(options) if callable(self.picture_slices) else self.picture_slices


class Thinking:
    """Thinks aloud, is let go on, answers; for a page whose model thinks.

    Attributes:
        goes_on: released by the test, once to end the thought and once to end the answer.
    """

    THOUGHT, ANSWER = "Is it **red**?\n\nIt is.", "It is a red circle."
    REPORTED = Thought(THOUGHT, 340, 12.0)

    def __init__(self) -> None:
        self.goes_on = threading.Semaphore(0)

    def __call__(self, _: Conversation) -> Iterable[Event]:
        """See `Script`."""
        yield ThoughtDelta("Is it **red**?", 10)
        while not self.goes_on.acquire(timeout=0.1):  # an engine is never silent for long
            yield Progress("encoding")
        yield ThoughtDelta("\n\nIt is.", 20)
        yield TextDelta("It is", 25)
        while not self.goes_on.acquire(timeout=0.1):
            yield Progress("encoding")
        yield TextDelta(" a red circle.", 30)
        yield finished(self.ANSWER, thought=self.REPORTED)
