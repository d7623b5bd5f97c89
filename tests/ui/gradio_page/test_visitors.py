"""Who comes back, and who does not."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omnilmm.conversation import Conversation
from omnilmm.engine.options import Sampling
from omnilmm.ui.answering import Answering
from omnilmm.ui.gradio_page import visitors as visitors_module
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.gradio_page.routes import Gate
from omnilmm.ui.gradio_page.visitors import Visitors
from omnilmm.ui.session_store import SessionStore
from omnilmm.ui.texts import ENGLISH
from tests.guarded import guarded
from tests.ui.gradio_page.tab import Tab, given, notice_of, red, said
from tests.ui.scripted import Held, ScriptedEngine

TALK = Conversation().with_message("user", red(), "one").with_message("assistant", "1")


@pytest.fixture
def visitors() -> Visitors:
    return Visitors(SessionStore())


def test_a_reloaded_page_has_everything_and_one_of_a_server_started_anew_the_text(visitors: Visitors) -> None:
    before = visitors.get("before")
    before.session.load(TALK)
    visitors.close("before")
    assert before.session.closed and len(visitors) == 0
    state, after = before.browser_state(), visitors.get("after")
    assert not after.is_restored.is_set()
    assert visitors.restore(after, state) == "" and after.session.conversation == TALK
    assert after.is_restored.is_set() and after.token == before.token
    other = after.session.conversation.without_last(2).with_message("user", "two").with_message("assistant", "2")
    after.session.load(other)
    assert visitors.restore(after, state) == "" and after.session.conversation == other, "it has one already"
    anew = Visitors(SessionStore())
    visitor = anew.get("anew")
    assert anew.restore(visitor, state) == ENGLISH.restored_text and not visitor.session.conversation.pictures
    assert visitor.session.conversation.messages[0].text == f"{ENGLISH.picture_lost}\none"
    assert visitor.session.chat.text_of == before.session.chat.id, "the browser may have the whole"


@pytest.mark.parametrize("state", ["", "{", "null", "[]"])
def test_who_has_nothing_stored_begins_with_nothing(visitors: Visitors, state: str) -> None:
    visitor = visitors.get("new")
    assert visitors.restore(visitor, state) == "" and not visitor.session.conversation.messages
    assert visitor.is_restored.is_set()


def test_what_somebody_stored_is_of_no_use_under_another_name(visitors: Visitors) -> None:
    ann = visitors.get("ann")
    ann.user = "ann"
    ann.session.load(TALK)
    visitors.save(ann)
    bob = visitors.get("bob")
    bob.user = "bob"
    assert visitors.restore(bob, ann.browser_state()) == ENGLISH.restored_text, "the text was in bob's own browser"
    assert not bob.session.conversation.pictures


def test_a_reload_takes_the_answer_along_that_was_being_given(
    visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the server has not noticed yet that the old page is gone: its tab goes on until then."""
    monkeypatch.setattr(visitors_module, "FINALIZE_S", 60)
    old, held = visitors.get("old"), Held("half", " whole")
    old.answering = Answering(old.session, lambda: old.session.ask(ScriptedEngine(held), ("?",), Sampling()))
    assert held.waits.wait(60) and old.session._running
    stopped = old.session._running.stop

    def end_once_stopped() -> None:
        assert stopped.wait(60)
        held.goes_on.set()

    threading.Thread(target=end_once_stopped).start()
    new = visitors.get("new")
    assert visitors.restore(new, old.browser_state()) == ""
    assert [message.text for message in new.session.conversation.messages] == ["?", "half whole"]
    assert not old.session.closed and new.session.can_continue


def test_what_a_closed_tab_asked_for_last_brings_nobody_back(
    visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors_module, "MOST_GONE", 2)
    for key in "abc":
        visitors.get(key)
        visitors.close(key)
    assert visitors.get("b").session.closed and visitors.get("c").session.closed and len(visitors) == 0
    assert not visitors.get("a").session.closed, "only so many are remembered"
    with visitors.present("b"):  # it was opened again, out of the browser's memory
        assert not visitors.get("b").session.closed and visitors.had_visitors


def test_a_connection_that_was_replaced_closes_nothing(visitors: Visitors) -> None:
    visitor = visitors.get("a")
    with visitors.present("a"):
        with visitors.present("a"):
            pass
        assert not visitors.close("a") and not visitor.session.closed and len(visitors) == 1
    assert visitors.close("a") is visitor and visitor.session.closed and len(visitors) == 0


def test_a_tab_is_closed_however_its_connection_ends(page: Page, tab: Tab) -> None:
    async def breaks(*_: Any) -> None:
        raise OSError("broken")

    key, app = str(tab.request.session_hash), SimpleNamespace(auth=None, cookie_id="", tokens={})
    scope = {"type": "http", "method": "GET", "path": f"/gradio_api/heartbeat/{key}", "headers": [], "app": app}
    with page.visitors.present(key), pytest.raises(OSError, match="broken"):
        asyncio.run(Gate(breaks, page)(scope, breaks, breaks))
    assert not tab.session.closed, "another connection is open"
    for harmless in ({"path": f"/static/heartbeat/{key}"}, {"method": "POST"}):
        with pytest.raises(OSError, match="broken"):
            asyncio.run(Gate(breaks, page)(scope | harmless, breaks, breaks))
    assert not tab.session.closed
    with pytest.raises(OSError, match="broken"):
        asyncio.run(Gate(breaks, page)(scope, breaks, breaks))
    assert tab.session.closed and len(page.visitors) == 0


def test_a_tab_that_reconnects_while_its_answer_comes_to_an_end_stays(visitors: Visitors) -> None:
    visitor, connections = visitors.get("a"), ExitStack()
    ending = SimpleNamespace(wait=lambda _: connections.enter_context(visitors.present("a")))
    visitor.answering = SimpleNamespace(done=ending)  # type: ignore[assignment]
    with connections:
        assert not visitors.close("a")
        assert visitors.get("a") is visitor and not visitor.session.closed


def test_tabs_come_and_go_under_the_lock_alone(visitors: Visitors, monkeypatch: pytest.MonkeyPatch) -> None:
    is_held, uses = visitors._lock.locked, []
    for name in ("_visitors", "_present", "_gone"):
        collection, of_collection = guarded(getattr(visitors, name), is_held)
        monkeypatch.setattr(visitors, name, collection)
        uses.append(of_collection)
    for _ in range(2):  # it comes back
        with visitors.present("a"):
            visitors.get("a")
        visitors.close("a")
    assert uses == [[], [], []]


def test_what_gradio_keeps_of_a_tab_is_dropped_under_its_lock(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = page.demo.state_holder
    state, uses = guarded(OrderedDict(a="of its widgets"), holder.lock.locked)
    monkeypatch.setattr(holder, "session_data", state)
    page._forget_widgets("a")
    assert not state and "pop" not in uses


def test_a_tab_that_was_left_takes_no_room(visitors: Visitors) -> None:
    with visitors.present("a"), visitors.present("a"):
        pass
    assert len(visitors._present) == 0


def test_uploads_go_with_the_last_tab_of_a_browser(page: Page, tab: Tab, picture: Path) -> None:
    second = Tab(page)
    second.request.headers = tab.request.headers
    path, key = tab.upload(picture), str(tab.request.session_hash)
    assert tab.visitor.owner == second.visitor.owner
    page._close(key)
    assert Path(path).exists(), "another tab of this browser is open"
    page._close(str(second.request.session_hash))
    assert not Path(path).exists()


def test_a_page_is_loaded_in_the_language_of_its_browser_and_said_anew_by_choice(page: Page) -> None:
    tab = Tab(page, language="zh-CN")
    clear = page.widgets.clear
    assert given(tab.loaded, clear, "value") == tab.session.texts.clear != ENGLISH.clear
    tab.ask("hello")
    updates = page.set_language(tab.request, "en")
    assert given(updates, clear, "value") == ENGLISH.clear and said(page, updates)[1] == "hello"
    restored = page.on_load(Tab(page, user="x").request, tab.visitor.browser_state(), "zh")
    assert given(restored, clear, "value") != ENGLISH.clear and "notice" in notice_of(page, restored)
