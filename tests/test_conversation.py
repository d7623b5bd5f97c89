"""A conversation never changes; every step makes a new one, and what cannot be answered is refused."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import FrozenInstanceError, replace

import pytest
from PIL import Image

from omnilmm.archive import EXPORT_FORMAT, to_json
from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.errors import InputError, OmniLMMError

RED, BLUE = (Picture(Image.new("RGB", (4, 2), colour)) for colour in ("red", "blue"))
ASKED = Conversation().with_message("user", RED, "What?")


def test_steps_leave_the_old_conversation_as_it_was() -> None:
    answered = ASKED.with_message("assistant", "Red.")
    assert len(ASKED.messages) == 1 and len(answered.messages) == 2
    assert answered.without_last() == ASKED and answered.without_last(2) == Conversation()
    assert answered.without_last(0) == answered and answered.without_last(9) == Conversation()
    with pytest.raises(FrozenInstanceError):
        ASKED.system = "other"


def test_the_system_prompt_stays_through_all_steps() -> None:
    conversation = Conversation(system="Be kind.").with_message("user", "Hi")
    assert conversation.system == conversation.without_last().system == "Be kind."


def test_text_and_pictures_come_apart_in_order() -> None:
    message = Message("user", ("a", RED, "b", BLUE))
    assert message.text == "a\nb" and message.pictures == (RED, BLUE)
    again = ASKED.with_message("assistant", "Red.").with_message("user", BLUE, "And?")
    assert again.pictures == (RED, BLUE)


def test_pictures_are_equal_by_content() -> None:
    assert Picture(Image.new("RGB", (4, 2), "red")) == RED != BLUE
    assert hash(Picture(Image.new("RGB", (4, 2), "red"))) == hash(RED)
    assert RED != "red" and Picture(Image.new("RGB", (2, 4), "red")) != RED


def test_a_question_may_be_asked() -> None:
    ASKED.check_question()
    ASKED.with_message("assistant", "Red.").with_message("user", "Sure?").check_question()


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        (Conversation(), "must be the user's question"),
        (ASKED.with_message("assistant", "Red."), "must be the user's question"),
        (Conversation().with_message("assistant", "Hi"), "expected 'user', got 'assistant'"),
        (ASKED.with_message("user", "And?"), "expected 'assistant', got 'user'"),
        (Conversation().with_message("system", "Hi"), "expected 'user', got 'system'"),
        (Conversation().with_message("user", ""), "question is empty: type"),
        (Conversation().with_message("user", RED), "question is empty: type"),
        (Conversation().with_message("user", RED, " \n\t", ""), "question is empty: type"),
    ],
)
def test_what_cannot_be_answered_is_refused(conversation: Conversation, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        conversation.check_question()


def test_export_holds_everything_that_was_said() -> None:
    conversation = Conversation(system="Sei nett.").with_message("user", RED, "图中有什么？")
    document = json.loads(to_json(conversation.with_message("assistant", "Rot 🙂")))
    assert document["format"] == EXPORT_FORMAT and document["system"] == "Sei nett."
    assert [message["role"] for message in document["messages"]] == ["user", "assistant"]
    picture, text = document["messages"][0]["content"]
    assert text == {"type": "text", "text": "图中有什么？"}
    exported = Image.open(io.BytesIO(base64.b64decode(picture["image"])))
    assert picture["type"] == "image" and Picture(exported.convert("RGB")) == RED
    assert document["messages"][1]["content"] == [{"type": "text", "text": "Rot 🙂"}]


def test_every_error_is_one_that_a_front_end_can_show() -> None:
    from omnilmm import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 8 and all(issubclass(kind, OmniLMMError) and kind.__doc__ for kind in kinds)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a\ud83db", "a\N{REPLACEMENT CHARACTER}b"),
        ("\ude00", "\N{REPLACEMENT CHARACTER}"),
        ("\ud83d\ude00", "\N{GRINNING FACE}"),
        ("\udcb0\udca1", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("图 é \N{GRINNING FACE} \0", "图 é \N{GRINNING FACE} \0"),
    ],
)
def test_text_is_made_of_whole_characters(text: str, whole: str) -> None:
    talk = Conversation(system=text).with_message("user", text)
    assert (talk.system, talk.messages[0].text) == (whole, whole)
    assert to_json(replace(talk, system=text)).encode()
    assert replace(talk.messages[0], parts=(text,)).text == whole
