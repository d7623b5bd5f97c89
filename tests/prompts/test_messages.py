"""Messages as scripts write them become a conversation, or one clear line."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import ImageError, InputError
from omnilmm.prompts.messages import conversation_from_dicts

RED = Image.new("RGB", (8, 4), "red")


def test_content_is_text_or_a_list() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": ["Yes", {"type": "text", "text": "sir"}]},
        {"role": "user", "content": ("And", "now?")},
    ]
    expected = Conversation().with_message("user", "Hi").with_message("assistant", "Yes", "sir")
    assert conversation_from_dicts(messages) == expected.with_message("user", "And", "now?")
    makers = [{"role": "user", "content": [{"type": "text", "pairs": "Hi"}]}]
    assert conversation_from_dicts(makers) == Conversation().with_message("user", "Hi")


def test_a_first_system_message_is_the_system_prompt() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert conversation_from_dicts(messages) == Conversation(system="Be kind.").with_message("user", "Hi")


def test_a_picture_may_be_given_in_many_ways(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    RED.save(path)
    buffer = io.BytesIO()
    RED.save(buffer, "PNG")
    given = [RED, path, buffer.getvalue(), Picture(RED)]
    given += [{"type": "image", "image": item} for item in (*given, str(path))]
    text = base64.b64encode(buffer.getvalue()).decode()
    uri = f"data:image/png;base64,{text}"
    given += [np.asarray(RED), buffer]
    given += [{"type": "image", "path": str(path)}, {"type": "image", "path": path}]
    given += [
        {"type": "image", "url": uri},
        {"type": "image", "url": path.as_uri()},
        {"type": "image", "url": str(path)},
    ]
    given += [{"type": "image", "base64": text}, {"type": "image", "base64": uri}, {"type": "image", "pairs": text}]
    given += [{"type": "image", "image": uri}, {"type": "image", "image": np.asarray(RED)}]
    given += [
        {"type": "image_url", "image_url": {"url": uri, "detail": "low"}},
        {"type": "image_url", "image_url": uri},
    ]
    for picture in given:
        conversation = conversation_from_dicts([{"role": "user", "content": [picture, "What?"]}])
        assert conversation == Conversation().with_message("user", Picture(RED), "What?")


def test_a_string_is_text_even_if_a_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RED.save(tmp_path / "red.png")
    monkeypatch.chdir(tmp_path)
    assert not conversation_from_dicts([{"role": "user", "content": ["red.png"]}]).pictures


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "robot", "content": "Hi"}], "expected role 'user' or 'assistant', got 'robot'"),
        ([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Late"}], "Message 1: .*got 'system'"),
        ([{"content": "Hi"}], "got None"),
        ([{"role": "user"}], "must be a dict with 'role' and 'content'"),
        (["Hi"], "must be a dict with 'role' and 'content'"),
        ("Hi", "must be a dict with 'role' and 'content'"),
        ([{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}], "A video needs a model that looks at"),
        ([{"role": "user", "content": [{"type": "video", "video": 3}]}], "Content must be text, a picture"),
        ([{"role": "user", "content": [{"type": "text", "text": 7}]}], "Content must be text, a picture"),
        ([{"role": "user", "content": [{"type": "image"}]}], "Content must be text, a picture"),
        ([{"role": "user", "content": [{"type": "image", "url": "https://a.b/c.png"}]}], "Nothing is fetched"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a.b"}}]}], "Nothing is fe"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "got {'type': 'image_url', …}"),
        ([{"role": "user", "content": [{"type": "image", "path": 7}]}], "Content must be text, a picture"),
        ([{"role": "user", "content": [{"type": "image", "image": 7}]}], "A picture is a path.*got int"),
        ([{"role": "user", "content": [object()]}], "A picture is a path.*got object"),
        ([{"role": "user", "content": 7}], "Content must be text, a picture"),
        ([{"role": "user", "content": None}], "Content must be text, a picture"),
        ([{"role": "user", "content": [["nested"]]}], "Content must be text, a picture"),
    ],
)
def test_messages_of_another_form_are_refused(messages: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        conversation_from_dicts(messages)
    assert len(str(caught.value)) < 200


def test_a_picture_that_is_not_there_is_named() -> None:
    content = [{"type": "image", "path": "nowhere.png"}, {"type": "text", "text": "What?"}]
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        conversation_from_dicts([{"role": "user", "content": content}])


@pytest.mark.parametrize("messages", [5, None, 1.5, object()])
def test_what_is_no_list_of_messages_is_one_line(messages: Any) -> None:
    with pytest.raises(InputError, match=r"^Messages are a list of dicts .*; got "):
        conversation_from_dicts(messages)


def test_halves_of_characters_are_mended_wherever_they_stand() -> None:
    said = conversation_from_dicts([{"role": "system", "content": "\ud800"}, {"role": "user", "content": ["a\udc00b"]}])
    assert (said.system, said.messages[0].text) == ("\ufffd", "a\ufffdb")
