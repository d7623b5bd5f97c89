"""An engine that is still loading says how far it is, and answers once it is there."""

from __future__ import annotations

import threading

import pytest

from omnilmm.catalog import BUILT_IN, find
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished, Progress
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.starting import PENDING, StartingEngine
from omnilmm.errors import CheckpointError, HardwareError
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
