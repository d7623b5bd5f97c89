"""Whose turn it is: hypothesis tries every order of what can happen."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from omnilmm.live.turns import State, Turns

STEPS = ("listen", "interrupt", "recognise", "nothing_heard", "ask", "speak", "answered", "silent")


def do(turns: Turns, step: str) -> None:
    given = (turns.turn,) if step in ("ask", "speak", "answered") else ()
    getattr(turns, step)(*given)


def test_a_question_is_heard_answered_and_spoken() -> None:
    turns, seen = Turns(), []
    for step in ("listen", "recognise", "ask", "speak", "answered", "silent"):
        do(turns, step)
        seen.append(turns.state)
    assert seen == ["listening", "thinking", "thinking", "speaking", "speaking", "idle"]


def test_more_sentences_may_come_after_a_pause() -> None:
    turns = Turns()
    for step in ("ask", "speak", "silent"):
        do(turns, step)
    assert turns.state == "thinking"
    assert turns.speak(turns.turn) and turns.state == "speaking"


def test_an_answer_without_words_ends_the_turn() -> None:
    turns = Turns()
    do(turns, "ask")
    do(turns, "answered")
    assert turns.state == "idle"


def test_speech_interrupts_and_nothing_of_the_old_answer_is_spoken() -> None:
    turns = Turns()
    assert turns.ask()
    turn = turns.turn
    assert turns.speak(turn)
    assert turns.listen()
    assert not turns.speak(turn) and turns.state == "listening"
    turns.answered(turn)  # it ends only now
    assert turns.state == "listening"


@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_whatever_happens_stop_and_speech_work(steps: list[str]) -> None:
    turns = Turns()
    for step in steps:
        do(turns, step)
        assert turns.state in get_args(State)
    old = turns.turn
    turns.interrupt()
    assert turns.state == "idle" and not turns.speak(old) and not turns.ask(old)
    assert turns.ask() and turns.state == "thinking", "a typed question begins a turn of its own"
    turns.listen()
    assert turns.state == "listening"
