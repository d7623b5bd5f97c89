"""What a request for a handler may bring along; a server is asked in `tests/pages/test_strangers.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omnilmm.errors import InputError
from omnilmm.ui.gradio_page.events import Events
from omnilmm.ui.gradio_page.page import Page
from tests.ui.gradio_page.tab import Tab


@pytest.fixture
def events(page: Page) -> Events:
    return Events(page.demo, page.context.uploads, page.widgets.kinds)


def body(page: Page, handler: str, *data: Any, **more: Any) -> bytes:
    number = next(
        number for number, event in page.demo.fns.items() if getattr(event.fn, "__qualname__", "").startswith(handler)
    )
    return json.dumps({"fn_index": number, "session_hash": "abc", "data": data} | more).encode()


def test_what_a_page_sends_goes_on_and_what_is_not_known_is_left_out(
    page: Page, tab: Tab, events: Events, picture: Path
) -> None:
    path = tab.upload(picture)
    sent = {"text": "?", "files": [{"path": path, "url": "http://evil.example", "meta": {}}], "more": 1}
    event = events.check(body(page, "Conversations.undo", sent, event_data={"x": 1}), tab.visitor.owner)
    assert set(event) == {"session_hash", "fn_index", "trigger_id", "data"}
    ((box),) = event["data"]
    assert box["text"] == "?" and set(box) == {"text", "files"}
    (file,) = box["files"]
    assert file["path"] == path and "url" not in file and file["meta"] == {"_type": "gradio.FileData"}


@pytest.mark.parametrize(
    ("handler", "data", "told"),
    [
        ("Conversations.undo", [{"text": 1, "files": []}], "question.text"),
        ("Conversations.undo", [], "takes 1 arguments, got 0"),
        ("Conversations.edit", ["1", None], "should be a valid integer"),
        ("Conversations.edit", [1e9, None], "number"),
        ("Conversations.edit", [-2, None], "greater than or equal to -1"),
        ("Pictures.refuse", [[1]], "should be a valid string"),
        ("Page.set_language", ["fr"], "language"),
        ("Choices.switch", [["a"], "auto"], "picker"),
        ("Past.send", [["x" * 2000]], "at most 1000 characters"),
    ],
)
def test_what_no_widget_gives_is_one_short_line(page: Page, events: Events, handler: str, data: Any, told: str) -> None:
    with pytest.raises(InputError) as refused:
        events.check(body(page, handler, *data), "mine")
    assert told in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 200


@pytest.mark.parametrize("more", [{"fn_index": 10**6}, {"session_hash": "a/b"}, {"session_hash": ""}, {"data": {}}])
def test_what_is_no_event_of_this_page_is_refused(page: Page, events: Events, more: dict[str, Any]) -> None:
    events.check(body(page, "Answers.stop"), "mine")  # it is one but for that
    with pytest.raises(InputError):
        events.check(body(page, "Answers.stop", **more), "mine")


def test_a_file_is_ones_own_wherever_it_stands(page: Page, tab: Tab, events: Events, picture: Path) -> None:
    theirs = Tab(page).upload(picture)
    for handler, data in (
        ("Conversations.undo", [{"text": "", "files": [{"path": theirs}]}]),
        ("Conversations.load", [{"path": theirs}]),
        ("Pictures.attach", [{"path": theirs}, None]),
    ):
        with pytest.raises(InputError, match="not among your uploads"):
            events.check(body(page, handler, *data), tab.visitor.owner)
