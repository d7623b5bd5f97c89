"""An engine that is still loading says how far it is, and answers once it is there."""

from __future__ import annotations

import threading
import time

import pytest

from omnilmm.catalog import BUILT_IN, find
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished, Progress
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.engine.starting import PENDING, StartingEngine
from omnilmm.errors import CheckpointError, HardwareError
from tests.engine.conftest import watched
from tests.engine.gate import Gate, Report


def test_whoever_asks_meanwhile_sees_the_download_and_is_answered(engine: LocalEngine, question: Conversation) -> None:
    gate = Gate(engine)
    starting = StartingEngine(find(BUILT_IN), gate.load)
    assert gate.reported.wait(30)
    assert not starting.is_ready and starting.card.name == BUILT_IN
    assert (starting.device, starting.dtype) == (PENDING, PENDING)
    events = starting.stream(question)
    assert next(events) == Progress("downloading", 3, 12)
    gate.open.set()
    *_, last = events
    assert isinstance(last, Finished)
    assert starting.is_ready and starting.card == engine.card and starting.device == engine.device


def test_a_model_that_cannot_be_loaded_says_why_to_everybody(question: Conversation) -> None:
    gate = Gate(error=HardwareError("needs 17.1 GiB, 8.0 GiB are free"))
    starting = StartingEngine(find(BUILT_IN), gate.load)
    gate.open.set()
    for _ in range(2):
        with pytest.raises(HardwareError, match=r"17\.1 GiB"):
            list(starting.stream(question))
    with pytest.raises(HardwareError, match=r"17\.1 GiB"):
        starting.wait()
    assert not starting.is_ready


def test_an_unexpected_failure_is_one_line_too(question: Conversation) -> None:
    gate = Gate(error=ZeroDivisionError("oops"))
    starting = StartingEngine(find(BUILT_IN), gate.load)
    gate.open.set()
    with pytest.raises(CheckpointError, match="Built-in model could not be loaded: oops"):
        list(starting.stream(question))


def test_when_the_download_is_over_the_loading_shows(engine: LocalEngine) -> None:
    done = threading.Event()

    def load(report: Report) -> Engine:
        report(1, 2)
        report(2, 2)
        done.wait(30)
        return engine

    starting = StartingEngine(find(BUILT_IN), load)
    while starting.progress.stage != "loading" or starting.done.is_set():
        pass
    done.set()
    starting.wait()
    assert starting.is_ready


def test_stop_ends_a_download_and_what_has_come_is_kept() -> None:
    """`fetch` stops when what it reports to raises."""
    begun, ended = threading.Event(), threading.Event()

    def load(report: Report) -> Engine:
        try:
            while True:
                report(1, 2)
                begun.set()
        finally:
            ended.set()

    starting = StartingEngine(find(BUILT_IN), load)
    assert begun.wait(30)
    starting.stop()
    assert ended.is_set() and starting.done.is_set()
    with pytest.raises(CheckpointError, match="goes on with it"):
        starting.wait()


def test_a_loaded_model_is_warmed_up_and_can_be_asked_meanwhile(engine: LocalEngine, question: Conversation) -> None:
    gate = Gate(engine)
    with watched(engine, pause_s=0.05) as passes:
        gate.open.set()
        starting = StartingEngine(find(BUILT_IN), gate.load)
        starting.wait()
        while not passes.count:
            time.sleep(0.01)
        *_, last = starting.stream(question, Sampling(max_new_tokens=3))
        assert isinstance(last, Finished)
    while engine.turns.count:
        time.sleep(0.01)
    assert 4 < passes.count < 12, "more than a few words were said for nobody"


def test_a_failed_warm_up_is_left_to_the_first_answer(engine: LocalEngine, question: Conversation) -> None:
    gate = Gate(engine)
    with watched(engine, fail_at=1) as passes:
        gate.open.set()
        starting = StartingEngine(find(BUILT_IN), gate.load)
        starting.wait()
        while not passes.count or engine.turns.count:
            time.sleep(0.01)
    *_, last = starting.stream(question, Sampling(max_new_tokens=3))
    assert isinstance(last, Finished) and starting.is_ready
