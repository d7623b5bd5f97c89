"""Past chats: what the browser is given, and a chat that it brings back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omnilmm.archive import to_json
from omnilmm.conversation import Conversation
from omnilmm.ui.gradio_page.bubbles import bubbles
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.session import Session
from omnilmm.ui.texts import ENGLISH
from tests.ui.gradio_page.tab import Tab, notice_of, said


def record(page: Page, tab: Tab, has: Any = ()) -> dict[str, Any]:
    found: dict[str, Any] = page.past.send(tab.request, has)[page.widgets.record]
    return found


def test_a_chat_is_given_whole_without_the_pictures_that_the_browser_has(page: Page, tab: Tab, picture: Path) -> None:
    tab.ask("one", tab.upload(picture))
    given = record(page, tab)
    (name,) = given["pictures"]
    assert given["chat"] == tab.session.chat.id and len(given["document"]["messages"]) == 2
    assert record(page, tab, [name])["pictures"] == {}
    assert list(record(page, tab, "nonsense")["pictures"]) == [name]


def test_a_chat_that_comes_back_is_gone_on_with_and_the_one_before_is_given_first(
    page: Page, tab: Tab, picture: Path
) -> None:
    tab.ask("one", tab.upload(picture))
    kept = record(page, tab)
    (name,) = kept["pictures"]
    document = json.loads(
        json.dumps(kept["document"]).replace(f'"{name}"', json.dumps(kept["pictures"][name]["image"]))
    )
    other = Tab(page)
    other.ask("two")
    before = other.session.chat.id
    opened = {"chat": kept["chat"], "document": json.dumps(document), "names": [name], "has": []}
    updates = page.past.open(other.request, opened)
    assert other.texts == ["one", "one"] and "one" in said(page, updates)[1]
    assert updates[page.widgets.previous_record]["chat"] == before and other.session.chat.id == kept["chat"]
    assert updates[page.widgets.editing] == -1
    saved = page.visitors.store.get(other.visitor.key)
    assert saved is not None and saved.conversation == tab.session.conversation


@pytest.mark.parametrize("given", [None, {}, {"chat": "a/b", "document": to_json(Conversation()), "names": []}])
def test_what_is_no_chat_changes_nothing(page: Page, tab: Tab, given: Any) -> None:
    tab.ask("one")
    assert "notice" in notice_of(page, page.past.open(tab.request, given)) and tab.texts == ["one", "one"]


def test_each_question_has_one_pencil_after_its_last_bubble(tab: Tab, picture: Path) -> None:
    tab.ask("one", tab.upload(picture), tab.upload(picture))
    tab.ask("two", shown=2)
    pencils = ["button" in bubble["content"] for bubble in bubbles(tab.session)]
    assert pencils == [False, False, True, False, False, True, False, False]
    assert f'aria-label="{ENGLISH.edit}"' in bubbles(tab.session)[2]["content"]
    assert bubbles(Session()) == []
