"""What a page is told of a turn that came to nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator

import pytest

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Progress, TextDelta
from omnilmm.engine.options import Sampling
from omnilmm.errors import InputError
from omnilmm.ui import session as session_module
from omnilmm.ui.answering import Answering, queue_refusal
from omnilmm.ui.draft import Draft
from omnilmm.ui.session import Session
from omnilmm.ui.texts import ENGLISH
from tests.ui.scripted import Held, ScriptedEngine


def stopped_early(*, restores_question: bool) -> Answering:
    session = Session()

    def waits(_: object) -> list[Progress]:
        session.stop()
        return [Progress("waiting", total=1)] * 9

    drafts = session.ask(ScriptedEngine(waits), ("?",), Sampling())
    answering = Answering(session, lambda: drafts, restores_question=restores_question)
    assert answering.done.wait(60)
    return answering


def test_only_a_question_from_the_box_is_said_to_be_back_in_it() -> None:
    assert [stopped_early(restores_question=back).outcome for back in (True, False)] == ["cancelled"] * 2
    assert [stopped_early(restores_question=back).notice for back in (True, False)] == [
        ENGLISH.withdrawn,
        ENGLISH.stopped_early,
    ]


def test_an_answer_at_which_nobody_looks_is_stopped_and_what_was_said_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "REFRESH_S", 0)
    watched = threading.Event()
    watched.set()

    def goes_on(_: Conversation) -> Iterable[Event]:
        for number in range(10_000):
            if number == 2:
                watched.clear()
            yield TextDelta("a")

    engine, session = ScriptedEngine(goes_on), Session()
    answering = Answering(session, lambda: session.ask(engine, ("?",), Sampling()), watched.is_set)
    assert answering.done.wait(60)
    assert (answering.outcome, answering.notice, engine.closed) == ("completed", "", 1)
    assert engine.forgotten == engine.owners, "nobody asks on: also if the visitor left before the answer had begun"
    assert session.conversation.messages[-1].text == "aaaa"  # the word that was on its way came, too


def failing(error: Exception) -> Answering:
    def drafts() -> Iterator[Draft]:
        raise error

    answering = Answering(Session(), drafts)
    assert answering.done.wait(60)
    return answering


def test_why_there_is_no_answer_is_said_and_what_nobody_expected_stands_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = failing(InputError("The question is empty."))
    assert (refused.outcome, refused.notice) == ("failed", "The question is empty.")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    broken = failing(RuntimeError("/secret/path"))
    assert (broken.outcome, broken.notice) == ("failed", ENGLISH.failed)
    assert "/secret/path" in caplog.text


def test_as_many_as_may_are_answered_and_whoever_is_one_of_them_may_ask_on() -> None:
    asking, waiting = Session(), Session()
    held = Held("a", "b")
    answering = Answering(asking, lambda: asking.ask(ScriptedEngine(held), ("?",), Sampling()))
    while not (answering.draft and answering.draft.text):
        assert not answering.done.wait(0.01)
    everybody = [asking, waiting]
    assert queue_refusal(waiting, everybody, 1) == ENGLISH.many_waiting.format(count=1)
    assert queue_refusal(asking, everybody, 1) == "", "it takes the place of its own answer"
    assert queue_refusal(waiting, everybody, 2) == queue_refusal(waiting, everybody, None) == ""
    held.goes_on.set()
    assert answering.done.wait(60)
    assert queue_refusal(waiting, everybody, 1) == ""
