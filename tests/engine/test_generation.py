"""One answer in steps: what is heard of it, when its words were there, and what a full device means."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from omnilmm.conversation import Conversation
from omnilmm.engine import generation as generating
from omnilmm.engine.backends.base import Request, Step
from omnilmm.engine.events import Progress
from omnilmm.engine.generation import Generation
from omnilmm.engine.options import Sampling
from omnilmm.errors import HardwareError

READING = Progress("encoding", 1, 1)
FULL = torch.OutOfMemoryError("CUDA out of memory")


class Script:
    """A backend whose answers are given, each a list of steps or errors; freeing brings so many bytes."""

    def __init__(self, *answers: Iterable[Step | Exception], freed_bytes: int = 0) -> None:
        self.answers, self.freed_bytes, self.closed = iter(answers), freed_bytes, 0

    def generate(self, _: Request) -> Generator[Step]:
        try:
            for step in next(self.answers):
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed += 1

    def free(self) -> int:
        return self.freed_bytes


def generation_of(*answers: Iterable[Step | Exception], **more: Any) -> Generation:
    backend: Any = Script(*answers, **more)
    return Generation(backend, Request(Conversation(), Sampling(), 0))


def test_the_first_word_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no word has none."""
    clock = itertools.count(1)
    monkeypatch.setattr(generating, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    generation = generation_of([READING, None, [1], None, [1, 2], [1, 2, 3]])
    times = []
    while generation.step():
        times.append((generation.first_s, generation.last_s))
    assert times == [(0, 0), (0, 0), (1, 1), (1, 1), (1, 2), (1, 3)]


def test_all_that_is_new_is_heard_at_once_and_progress_before_it() -> None:
    generation = generation_of([READING, None, [1], [1, 2]])
    while generation.step():
        pass
    assert list(generation.outputs()) == [READING, [1, 2]]


def test_what_went_wrong_is_heard_after_what_was_said() -> None:
    generation = generation_of([[1], ValueError("broken")])
    while generation.step():
        pass
    heard = generation.outputs()
    assert next(heard) == [1]
    with pytest.raises(ValueError, match="broken"):
        next(heard)


def test_closing_ends_the_answer_itself() -> None:
    generation = generation_of([[1], [1, 2]])
    assert generation.step()
    generation.close()
    backend: Any = generation.backend
    assert backend.closed == 1


@pytest.mark.parametrize(
    ("begin", "freed_bytes", "goes_on"), [([READING], 9, True), ([READING], 0, False), ([[1]], 9, False)]
)
def test_a_full_device_is_emptied_and_tried_again_while_nothing_was_said(
    begin: list[Step], freed_bytes: int, goes_on: bool
) -> None:
    generation = generation_of([*begin, FULL], [[2]], freed_bytes=freed_bytes)
    while generation.step():
        pass
    if goes_on:
        assert list(generation.outputs())[-1] == [2]
    else:
        with pytest.raises(HardwareError, match="ran out of memory while answering") as error:
            list(generation.outputs())
        assert error.value.__cause__ is FULL
