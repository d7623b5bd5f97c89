"""An exported conversation comes back as it was; anything else is refused with a word about what is wrong."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omnilmm import archive
from omnilmm.archive import read_conversation, read_conversation_file, to_json, write_conversation_file
from omnilmm.conversation import Conversation, Message, Picture, Thought
from omnilmm.errors import InputError
from omnilmm.ui.markdown_export import to_markdown
from omnilmm.ui.texts import ENGLISH, texts_in

colours = st.tuples(*[st.integers(0, 255)] * 3)
pictures = st.builds(
    lambda w, h, colour: Picture(Image.new("RGB", (w, h), colour)), st.integers(1, 9), st.integers(1, 9), colours
)
questions = st.lists(st.one_of(st.text(max_size=40), pictures), min_size=1, max_size=3)


thoughts = st.none() | st.builds(
    Thought, st.text(max_size=60), st.integers(0, 999), st.floats(0, 999), is_closed=st.booleans()
)
Turn = tuple[list[str | Picture], str, Thought | None]


@settings(deadline=None)
@given(
    st.lists(st.tuples(questions, st.text(max_size=60), thoughts), max_size=4),
    st.none() | st.text(min_size=1, max_size=20),
)
def test_what_is_exported_is_read_back(turns: list[Turn], system: str | None) -> None:
    conversation = Conversation(system=system)
    for question, answer, thought in turns:
        asked = conversation.with_message("user", *question)
        conversation = replace(asked, messages=(*asked.messages, Message("assistant", (answer,), thought)))
    assert read_conversation(to_json(conversation)) == conversation
    assert read_conversation(to_json(conversation).encode()) == conversation


def document(**changes: object) -> str:
    whole: dict[str, object] = {"format": "omnilmm-chat/1", "system": None, "messages": []}
    return json.dumps(whole | changes)


def said(role: str, *content: object) -> dict[str, object]:
    return {"role": role, "content": list(content)}


TEXT = {"type": "text", "text": "hello"}


def shown(image: str) -> str:
    return document(messages=[said("user", {"type": "image", "image": image}), said("assistant", TEXT)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "the file"),
        (document(format="other/2"), "expected 'omnilmm-chat/1'"),
        (document(more=1), "more"),
        (document(messages=[said("system", TEXT)]), "messages.0.role"),
        (document(messages=[said("user", TEXT | {"type": "audio"})]), "messages.0.content"),
        (document(messages=[said("user", TEXT)]), "by turns, ending with an answer"),
        (document(messages=[said("assistant", TEXT), said("user", TEXT)]), "by turns"),
        (shown("%%"), "Message 1: .*base64"),
        (shown("图片"), "Message 1: .*base64"),
        (shown("aGFsbG8="), "Message 1: .*picture"),
    ],
)
def test_anything_else_is_refused(data: str | bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_conversation(data)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    stored = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stored, "PNG")
    with pytest.raises(InputError, match="megapixels"):
        read_conversation(shown(base64.b64encode(stored.getvalue()).decode()))


def test_an_answer_cannot_hold_a_picture() -> None:
    picture = json.loads(to_json(Conversation().with_message("user", Picture(Image.new("RGB", (1, 1))))))
    image = picture["messages"][0]["content"][0]
    with pytest.raises(InputError, match="Message 2"):
        read_conversation(document(messages=[said("user", TEXT), said("assistant", image)]))


def test_a_file_that_is_too_large_is_not_even_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="may have"):
        read_conversation(document())
    monkeypatch.setattr(archive, "MAX_BYTES", len(document()))
    assert read_conversation(document()) == Conversation()
    path = tmp_path / "a.json"
    path.write_text(f"{document()} ")
    with pytest.raises(InputError, match="may have"):
        read_conversation_file(path)


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of POSIX")
def test_of_a_file_without_end_only_so_much_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 10)
    pipe, whole = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError), pipe.open("wb") as file:
            whole.append(file.write(bytes(2**22)))

    writer = threading.Thread(target=write, daemon=True)  # waits for a reader, who may never come
    writer.start()
    with pytest.raises(InputError, match="may have"):
        read_conversation_file(pipe)
    writer.join(60)
    assert not writer.is_alive() and not whole


def test_a_message_and_a_conversation_have_only_so_many_parts() -> None:
    turn = [said("user", TEXT), said("assistant", TEXT)]
    assert len(read_conversation(document(messages=turn * 500)).messages) == 1000
    with pytest.raises(InputError, match="messages: List should have at most 1000"):
        read_conversation(document(messages=turn * 501))
    for count in (100, 101):
        data = document(messages=[said("user", *[TEXT] * count), turn[1]])
        if count == 100:
            assert len(read_conversation(data).messages[0].parts) == count
        else:
            with pytest.raises(InputError, match=r"messages\.0\.content: List should have at most 100"):
                read_conversation(data)


def test_markdown_is_one_file_to_read() -> None:
    conversation = Conversation(system="Be brief.").with_message("user", Picture(Image.new("RGB", (900, 30))), "What?")
    conversation = conversation.with_message("assistant", "A *line*.")
    exported = to_markdown(conversation, ENGLISH)
    assert exported.startswith("> Be brief.\n\n**You**\n\n![picture, 900 by 30 pixels](data:image/jpeg;base64,")
    assert exported.endswith("What?\n\n**Model**\n\nA *line*.\n")
    assert "**模型**" in to_markdown(conversation, texts_in("zh"))
    named = to_markdown(conversation, ENGLISH, "MiniCPM-V 2.6 + <my_parts>")
    first, rest = named.split("\n\n", 1)
    assert rest == exported and html.unescape(first) == "Model at the time of the export: MiniCPM-V 2.6 + <my_parts>"
    assert "<" not in first and "_" not in first


def test_the_model_is_named_and_not_read_back(tmp_path: Path) -> None:
    """What names none, such as an older file, is read, too."""
    talk, file = TALK.with_message("assistant", "yes"), tmp_path / "talk.json"
    assert "model" not in json.loads(to_json(talk))
    write_conversation_file(talk, file, "A + parts")
    assert json.loads(file.read_text())["model"] == "A + parts" and read_conversation_file(file) == talk


def test_pictures_that_take_too_long_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation().with_message("user", *(Picture(Image.new("RGB", (n, 9))) for n in range(1, 40)))
    document = to_json(conversation.with_message("assistant", "yes"))
    assert len(read_conversation(document).pictures) == 39
    monkeypatch.setenv("OMNILMM_PICTURE_IMPORT_SECONDS", "0.001")
    with pytest.raises(InputError, match=r"Message 1: .*longer than 0.001 seconds.*IMPORT_SECONDS \(now 0.001\)"):
        read_conversation(document)


def test_pictures_of_too_many_pixels_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_PIXELS", 200)
    conversation = Conversation()
    for colour in ("red", "blue"):
        conversation = conversation.with_message("user", Picture(Image.new("RGB", (10, 10), colour)))
        conversation = conversation.with_message("assistant", "yes")
    assert read_conversation(to_json(conversation)) == conversation
    monkeypatch.setattr(archive, "MAX_PIXELS", 199)
    with pytest.raises(InputError, match=r"Message 3: .*together"):
        read_conversation(to_json(conversation))


def test_a_thought_stands_beside_its_answer_and_not_in_what_is_for_reading() -> None:
    answer = Message("assistant", ("Red.",), Thought("Hm, secret.", 4, 1.5))
    conversation = Conversation((Message("user", ("What?",)), answer))
    written = json.loads(to_json(conversation))["messages"]
    assert written[1] == said("assistant", {"type": "text", "text": "Red."}) | {
        "thought": {"text": "Hm, secret.", "tokens": 4, "seconds": 1.5, "is_closed": True}
    }
    assert "thought" not in written[0]
    assert "secret" not in to_markdown(conversation, ENGLISH)
    written[0]["thought"] = written[1]["thought"]
    with pytest.raises(InputError, match="Message 1: a question cannot hold a thought"):
        read_conversation(document(messages=written))
    written[0]["thought"] = {"text": "a", "tokens": -1}
    with pytest.raises(InputError, match=r"messages\.0\.thought\.tokens"):
        read_conversation(document(messages=written))


TALK = Conversation().with_message("user", Picture(Image.effect_noise((200, 200), 90).convert("RGB")), "?")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_on_a_full_disk_an_earlier_file_stays_and_no_piece_is_left(tmp_path: Path) -> None:
    import resource

    file = tmp_path / "talk.json"
    write_conversation_file(TALK.with_message("assistant", "first"), file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # no file may grow beyond
    try:
        with pytest.raises(OSError, match="talk") as error:
            write_conversation_file(TALK.with_message("assistant", "second"), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(file)
    assert [*tmp_path.iterdir()] == [file] and file.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_what_is_no_file_is_written_to_as_it_is() -> None:
    write_conversation_file(TALK, Path("/dev/null"))
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_conversation_file(TALK, Path("/dev/full"))
