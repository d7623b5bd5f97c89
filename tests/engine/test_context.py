"""A conversation that is too long loses its oldest turns, and never what the newest question is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.context import fit
from omnilmm.errors import ContextLengthError

RED, BLUE = (Picture(Image.new("RGB", (2, 2), colour)) for colour in ("red", "blue"))


def length(conversation: Conversation) -> int:
    """A token per letter, 10 per picture."""
    return sum(10 if isinstance(part, Picture) else len(part) for m in conversation.messages for part in m.parts)


def turns(*sizes: int) -> Conversation:
    """Questions and answers of these lengths, a question last."""
    conversation = Conversation(system="kept")
    for number, size in enumerate(sizes):
        conversation = conversation.with_message("assistant" if number % 2 else "user", str(number) * size)
    return conversation


def test_what_fits_is_left_alone() -> None:
    conversation = turns(5, 5, 5)
    assert fit(conversation, length, context=20, max_new_tokens=5) == (conversation, 0)


def test_oldest_turns_go_first_and_as_few_as_needed() -> None:
    conversation = turns(5, 5, 5, 5, 5)
    shorter, dropped = fit(conversation, length, context=25, max_new_tokens=5)
    assert dropped == 2 and shorter.messages == conversation.messages[2:] and shorter.system == "kept"
    shorter, dropped = fit(conversation, length, context=19, max_new_tokens=5)
    assert dropped == 4 and shorter.messages == conversation.messages[4:]


def test_room_for_the_answer_is_reserved() -> None:
    assert fit(turns(5, 5, 5), length, context=15, max_new_tokens=0)[1] == 0
    assert fit(turns(5, 5, 5), length, context=15, max_new_tokens=1)[1] == 2


def test_pictures_of_a_dropped_turn_move_to_the_oldest_question_that_stays() -> None:
    conversation = Conversation().with_message("user", RED, BLUE, "a" * 9).with_message("assistant", "b" * 9)
    conversation = conversation.with_message("user", "c").with_message("assistant", "d").with_message("user", "e")
    shorter, dropped = fit(conversation, length, context=30, max_new_tokens=5)
    assert dropped == 2
    assert shorter.messages[0].parts == (RED, BLUE, "c")
    assert [message.text for message in shorter.messages] == ["c", "d", "e"]


def test_only_the_last_pictures_shown_move() -> None:
    conversation = Conversation().with_message("user", RED, "a").with_message("assistant", "b" * 20)
    conversation = conversation.with_message("user", BLUE, "c").with_message("assistant", "d" * 20)
    shorter, dropped = fit(conversation.with_message("user", "e"), length, context=20, max_new_tokens=5)
    assert dropped == 4 and shorter.messages[0].parts == (BLUE, "e")


def test_no_picture_moves_where_a_newer_one_stays() -> None:
    conversation = Conversation().with_message("user", RED, "a").with_message("assistant", "b" * 20)
    shorter, dropped = fit(conversation.with_message("user", BLUE, "c"), length, context=20, max_new_tokens=5)
    assert dropped == 2 and shorter.pictures == (BLUE,)


def test_what_must_stay_and_does_not_fit_is_an_error_with_the_numbers() -> None:
    with pytest.raises(ContextLengthError, match=r"takes 30 tokens, but only 15 fit.*20 tokens, of which 5 are"):
        fit(turns(5, 5, 30), length, context=20, max_new_tokens=5)
    conversation = Conversation().with_message("user", RED, RED, "a").with_message("assistant", "b")
    with pytest.raises(ContextLengthError, match="takes 21 tokens, but only 15 fit"):
        fit(conversation.with_message("user", "c"), length, context=20, max_new_tokens=5)


def test_a_limit_larger_than_the_context_leaves_no_room() -> None:
    with pytest.raises(ContextLengthError, match="only 0 fit"):
        fit(turns(1), length, context=10, max_new_tokens=20)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=7), st.integers(1, 90))
def test_the_result_fits_ends_with_the_question_and_still_shows_the_last_pictures(
    drawn: list[tuple[int, int]], room: int
) -> None:
    conversation = Conversation()
    for number, (size, pictures) in enumerate(drawn[: len(drawn) - 1 + len(drawn) % 2]):
        shown = () if number % 2 else (Picture(Image.new("RGB", (1 + number, 1))),) * pictures
        conversation = conversation.with_message("assistant" if number % 2 else "user", *shown, "x" * size)
    try:
        shorter, dropped = fit(conversation, length, context=room + 5, max_new_tokens=5)
    except ContextLengthError:
        return
    assert length(shorter) <= room and dropped % 2 == 0
    assert shorter.messages[0].role == "user" and shorter.messages[-1].text == conversation.messages[-1].text
    assert len(shorter.messages) == len(conversation.messages) - dropped
    last = next((m.pictures for m in reversed(conversation.messages) if m.pictures), ())
    assert next((m.pictures for m in reversed(shorter.messages) if m.pictures), ()) == last
    if dropped:  # one turn more would not have fitted
        more = conversation.messages[dropped - 2 :]
        shown = sum(len(message.pictures) for message in more) or len(last)
        assert sum(len(message.text) for message in more) + 10 * shown > room
