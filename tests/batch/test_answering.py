"""Many questions at once: replies in order, a failed one stops nothing, leaving stops the model."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import partial

import pytest

from omnilmm.batch.answering import AHEAD, Prepare, Reply, answer_all
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Progress, TextDelta
from omnilmm.engine.options import Greedy, Options
from omnilmm.errors import ImageError, InputError
from tests.ui.scripted import ScriptedEngine, echo, finished

OPTIONS = Greedy()


def question(text: str) -> tuple[Conversation, Options]:
    return Conversation().with_message("user", text), OPTIONS


def questions(count: int) -> list[Prepare]:
    return [partial(question, f"question {number}") for number in range(count)]


def test_replies_come_in_the_order_of_the_questions_though_the_first_is_answered_last() -> None:
    others = threading.Barrier(3)

    def first_waits(conversation: Conversation) -> Iterable[Event]:
        others.wait(60)  # three are answered at the same time
        yield from echo(conversation)

    engine = ScriptedEngine(first_waits)
    replies = list(answer_all(engine, questions(6), at_once=3))
    assert [(reply.number, reply.text) for reply in replies] == [(n, f"question {n}") for n in range(6)]
    assert engine.asked[0][1] is OPTIONS and engine.closed == 6


def test_a_question_that_fails_is_a_reply_with_its_error_and_stops_nothing() -> None:
    def unreadable() -> tuple[Conversation, Options]:
        raise ImageError("no_picture")

    def failing(conversation: Conversation) -> Iterable[Event]:
        if conversation.messages[0].text == "question 2":
            raise RuntimeError("a fault\nof the program")
        return echo(conversation)

    every = questions(4)
    every[1] = unreadable
    replies = list(answer_all(ScriptedEngine(failing), every, at_once=2))
    assert [reply.text for reply in replies] == ["question 0", "", "", "question 3"]
    assert isinstance(replies[1].error, ImageError)
    assert isinstance(replies[2].error, InputError) and "RuntimeError" in str(replies[2].error)
    assert replies[1].finished is replies[2].finished is None


def test_leaving_stops_what_runs_and_asks_nothing_more() -> None:
    def endless(conversation: Conversation) -> Iterable[Event]:
        if conversation.messages[0].text == "question 0":
            yield finished("first")
            return
        while True:
            yield Progress("prefill")

    engine = ScriptedEngine(endless)
    taken: list[Prepare] = []

    def source() -> Iterator[Prepare]:
        for prepare in questions(100):
            taken.append(prepare)
            yield prepare

    replies = answer_all(engine, source(), at_once=2)
    assert next(replies) == Reply(0, finished("first"))
    replies.close()
    assert engine.closed == len(engine.asked) <= 3
    assert len(taken) <= 2 * AHEAD  # read a little ahead only


def test_a_failing_source_of_questions_ends_the_batch_with_its_error() -> None:
    def source() -> Iterator[Prepare]:
        yield from questions(1)
        raise InputError("map_lengths", count=1)

    with pytest.raises(InputError, match="after 1"):
        list(answer_all(ScriptedEngine(lambda _: [TextDelta("a"), finished("a")]), source()))
