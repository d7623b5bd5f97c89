"""Every answer ends for who asked it, whatever happens to it: no event is lost, and nobody waits for ever."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import torch

from omnilmm.conversation import Conversation
from omnilmm.engine.backends.base import Request, Step
from omnilmm.engine.backends.stepwise import stepwise
from omnilmm.engine.events import Finished
from omnilmm.engine.generation import Generation
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Sampling
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.scheduler import Scheduler
from omnilmm.errors import HardwareError

PATIENCE_S = 60
CLIENTS, ANSWERS = 12, 12


def together(count: int, visit: Callable[[int], None]) -> None:
    """So many at once, to their ends; what one of them raises is raised."""
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            visit(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    if raised:
        raise raised[0]
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hurried")
def test_many_short_answers_that_are_read_or_closed_anywhere_all_end(
    make_engine: Callable[..., LocalEngine], question: Conversation
) -> None:
    engine = make_engine(at_once=3)
    provider = ModelProvider.holding(engine)
    finished = []

    def visit(number: int) -> None:
        chance = random.Random(number)
        for turn in range(ANSWERS):
            options = chance.choice(
                [Sampling(seed=turn, max_new_tokens=chance.randint(1, 4)), BeamSearch(2, max_new_tokens=2)]
            )
            most = chance.choice([10**6, chance.randint(0, 6)])
            with closing(provider.stream(question, options, owner=number % 4)) as events:
                for place, event in enumerate(events):
                    if isinstance(event, Finished):
                        finished.append(event)
                    elif place >= most:
                        break

    together(CLIENTS, visit)
    assert len(finished) > CLIENTS * ANSWERS / 3
    assert not engine.scheduler.count and not provider._answers


class Ending:
    """A backend of which some answers end in ways of their own."""

    def __init__(self, end: BaseException | None) -> None:
        self.end = end

    def generate(self, request: Request) -> Iterator[Step]:
        yield None
        if self.end is not None:
            raise self.end
        yield [1]

    def free(self) -> int:
        raise SystemError("nothing can be freed")


def heard(scheduler: Scheduler, backend: Any, question: Conversation) -> list[Step]:
    generation = Generation(backend, Request(question, Sampling(), 0))
    with scheduler.submit(generation) as job:
        return [said for said in generation.outputs(job.gone.is_set) if said is not None]


@pytest.mark.parametrize("end", [RuntimeError("broken"), SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_whatever_an_answer_raises_is_heard_and_the_next_one_is_given(
    end: BaseException, question: Conversation
) -> None:
    scheduler = Scheduler()
    with pytest.raises((HardwareError, type(end))):  # too little memory even to say so: the end is noticed
        heard(scheduler, Ending(end), question)
    assert heard(scheduler, Ending(None), question) == [[1]]
    assert not scheduler.count


def test_work_that_is_put_away_without_a_word_is_an_error_for_who_listens(question: Conversation) -> None:
    class Silent(Generation):
        def step(self) -> bool:
            raise SystemExit

    scheduler = Scheduler()
    generation = Silent(Ending(None), Request(question, Sampling(), 0))  # type: ignore[arg-type]
    with scheduler.submit(generation) as job, pytest.raises(HardwareError, match="without a word"):
        list(generation.outputs(job.gone.is_set))
    assert heard(scheduler, Ending(None), question) == [[1]]


def test_where_no_thread_can_be_started_the_next_answer_starts_one(
    monkeypatch: pytest.MonkeyPatch, question: Conversation
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scheduler = Scheduler()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            heard(scheduler, Ending(None), question)
    assert not scheduler.count
    assert heard(scheduler, Ending(None), question) == [[1]]


def test_surroundings_that_cannot_be_entered_are_an_error_and_not_a_wait_for_ever() -> None:
    def broken() -> Any:
        raise RuntimeError("no random numbers")

    with pytest.raises(RuntimeError, match="no random numbers"):
        next(stepwise(lambda _: torch.zeros(1, 1), around=broken))
