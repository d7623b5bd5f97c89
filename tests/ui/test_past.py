"""What a browser is given to keep, and what comes back of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from PIL import Image

from omnilmm.archive import to_json
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.options import Sampling
from omnilmm.errors import InputError
from omnilmm.images.pixels import open_picture
from omnilmm.ui.access import account_in
from omnilmm.ui.past import LOSSLESS_PIXELS, Chat, chat_record, names_in, read_opened
from omnilmm.ui.session import Session
from omnilmm.ui.session_store import BrowserState
from tests.ui.scripted import ScriptedEngine

SMALL = Picture(Image.effect_noise((40, 30), 90).convert("RGB"))
LARGE = Picture(Image.effect_noise((2000, LOSSLESS_PIXELS // 2000 + 1), 90).convert("RGB"))
TALK = (
    Conversation(system="Be brief.")
    .with_message("user", SMALL, "What is <b>it</b>?")
    .with_message("assistant", "Noise.")
    .with_message("user", SMALL, LARGE, "两张？")
    .with_message("assistant", "Yes.")
)


def given(kept: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What `assets/history.js` makes of a chat_record when the chat is opened."""
    document = json.loads(json.dumps(kept["document"]))
    names = []
    for part in (part for message in document["messages"] for part in message["content"]):
        if part["type"] == "image":
            names.append(part["image"])
            part["image"] = kept["pictures"][part["image"]]["image"]
    return {"chat": kept["chat"], "document": json.dumps(document), "names": names, **more}


def test_a_chat_comes_back_as_it_was() -> None:
    kept = chat_record(Chat("one"), TALK)
    assert len(kept["pictures"]) == 2, "a picture that was shown twice is sent once"
    opened = read_opened(given(kept, has=["x"]))
    back = opened.conversation
    assert (opened.chat.id, opened.has, back.system) == ("one", ("x",), "Be brief.")
    assert [message.text for message in back.messages] == [message.text for message in TALK.messages]
    assert back.pictures[0] == SMALL and back.pictures[2].image.size == LARGE.image.size
    again = chat_record(opened.chat, back, has=kept["pictures"])
    assert again["document"] == kept["document"] and again["pictures"] == {}, "a photo was sent once more"


def test_only_what_the_browser_lacks_is_sent() -> None:
    kept = chat_record(Chat("one"), TALK, has=[SMALL.digest])
    assert list(kept["pictures"]) == [LARGE.digest]
    assert len(kept["pictures"][LARGE.digest]["thumbnail"]) < 10_000
    nothing = chat_record(Chat("one"), TALK, has=[SMALL.digest, LARGE.digest])
    assert len(json.dumps(nothing)) < 1500


VALID = {"chat": "one", "document": to_json(Conversation()), "names": []}


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "x",
        VALID | {"chat": "../x"},
        VALID | {"document": {}},
        VALID | {"document": "{}"},
        VALID | {"names": "x"},
        VALID | {"more": 1},
    ],
)
def test_what_is_no_chat_is_refused_in_one_line(broken: object) -> None:
    assert read_opened(VALID).conversation == Conversation(), "but for one thing it would be a chat"
    with pytest.raises(InputError) as refused:
        read_opened(broken)
    assert "\n" not in str(refused.value)
    assert names_in(broken) == frozenset()


def test_a_new_chat_is_another_one_and_a_turn_is_not() -> None:
    session, engine = Session(), ScriptedEngine()
    first = session.chat.id
    list(session.ask(engine, ("Hello",), Sampling()))
    list(session.regenerate(engine, Sampling()))
    session.undo()
    assert session.chat.id == session.snapshot.chat.id == first
    session.clear()
    second = session.chat.id
    assert second != first
    session.load(TALK)
    assert session.chat.id not in (first, second)
    session.load(TALK, chat=Chat("one"))
    assert session.chat.id == "one"


def test_the_text_alone_never_takes_the_place_of_the_whole() -> None:
    memory = BrowserState.read(BrowserState.of("token", "en", TALK, Chat("one")).model_dump_json())
    session = Session()
    session.load(memory.conversation("[gone]"), chat=memory.text_only_chat)
    kept = session.snapshot
    assert kept.chat.id != "one" and kept.chat.text_of == "one" and chat_record(kept.chat, kept.conversation) == {}
    again = BrowserState.read(BrowserState.of("token", "en", kept.conversation, kept.chat).model_dump_json())
    assert again.text_only_chat.text_of == "one", "the server was started anew once more"
    list(session.ask(ScriptedEngine(), ("And now?",), Sampling()))
    assert chat_record(session.chat, session.conversation) and session.chat.text_of == ""


def test_whose_cookie_it_is() -> None:
    assert account_in("Änn".encode().hex() + ".signature") == "Änn"
    assert account_in(None) == account_in("zz.x") == account_in("") == ""


def test_a_chat_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnilmm.ui.past.MAX_BYTES", 1000)
    assert chat_record(Chat("one"), TALK) == {"chat": "one"}
    assert "document" in chat_record(Chat("one"), TALK, has=[SMALL.digest, LARGE.digest])


def test_a_picture_that_is_too_long_for_a_jpeg_is_kept() -> None:
    long = Picture(Image.new("RGB", (LOSSLESS_PIXELS + 1, 1)))
    talk = Conversation().with_message("user", long, "?").with_message("assistant", "A line.")
    (kept,) = chat_record(Chat(), talk)["pictures"].values()
    assert open_picture(base64.b64decode(kept["image"])) == long
