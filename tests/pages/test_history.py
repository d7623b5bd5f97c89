"""Past chats: a journey through the Gradio page, and the script that keeps them by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from omnilmm.catalog import ROOT
from omnilmm.ui.session_store import SessionStore
from omnilmm.ui.texts import ENGLISH
from tests.browser import opened
from tests.pages.history import SAID, keep_open_and_delete
from tests.pages.visitor import PATIENCE_MS, SAMPLES, Site, Visitor

ADDRESS = "http://page.example/"
SCRIPTS = [(ROOT / "assets" / name).read_text(encoding="utf-8") for name in ("history.js", "past_chats.js")]

# A server in two lines: what is on the page is sent when it is asked for, with the pictures that the browser lacks.
PAGE = """
window.sent = []
window.conversation = (question, picture, more = []) => ({ format: "omnilmm-chat/1", system: null, messages: [
  { role: "user", content: [{ type: "image", image: picture }, { type: "text", text: question }] },
  { role: "assistant", content: [{ type: "text", text: "yes" }] }, ...more] })
window.show = (chat, content, account = "") => new Promise((resolve) => {
  const names = content.messages.flatMap(m => m.content).filter(part => part.type === "image").map(part => part.image)
  const ask = async (has) => {
    const missing = names.filter(name => !has.includes(name))
    window.sent.push(missing)
    const pictures = Object.fromEntries(missing.map(name => [name, { image: name.repeat(100), thumbnail: "" }]))
    await omnilmmHistory.store({ chat, document: content, pictures })
    omnilmmHistory.kept()
    resolve()
  }
  omnilmmHistory.connect({ chat, restore: "", account, ask, open: (opened) => { window.opened = opened } })
  omnilmmHistory.changed()
  if (!omnilmmHistory.isOn() || omnilmmHistory.isDeleted()) resolve()
})
window.list = () => omnilmmHistory.list().then(chats => chats.map(chat => [chat.title, chat.content.messages.length]))
"""

# What a tab waits for others to say that they show a chat, too, and for a server's reply: `waits[150]`, `waits[20000]`.
WAITS = """
const later = window.setTimeout
window.waits = {}
window.setTimeout = (act, ms, ...more) => later(act, window.waits[ms] ?? ms, ...more)
"""

Open = Callable[..., Page]


def test_past_chats_are_kept_opened_and_deleted(visit: Callable[..., Visitor], site: Site) -> None:
    def restart(_: Any) -> None:
        site.page.visitors.store = SessionStore()
        site.page.visitors._visitors.clear()

    keep_open_and_delete(visit(), visit(), restart, SAMPLES["circle"], SAMPLES["stars"])
    states = [*site.page.demo.state_holder.session_data.values()]
    assert states and not any(kept for state in states for kept in state.config_values.values()), (
        "Gradio has what the browser keeps"
    )


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    context.route("**/*", lambda route: route.fulfill(body="<div id=root></div>", content_type="text/html"))
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext) -> Open:
    """Opens a page that has the scripts alone; `most`: bytes of all chats together; `before`: runs before them."""

    def open_tab(most: str = "200e6", before: str = "", on: bool = True) -> Page:
        page = opened(context)
        page.goto(ADDRESS)
        page.evaluate(f"() => {{ {before} }}")
        for script in (SCRIPTS[0].replace("200e6", most).replace("100e6", most), SCRIPTS[1], PAGE):
            page.add_script_tag(content=script)
        page.evaluate("show('none', { messages: [] })")
        page.evaluate("texts => omnilmmPastChats(root, texts)", SAID | {"language": "en"})
        if on:
            page.evaluate("omnilmmHistory.switchTo(true)")
        return page

    return open_tab


def says(page: Page, text: str) -> None:
    """Wait for what the list says of itself."""
    expect(page.locator(".past-status")).to_have_text(text)


def test_pictures_are_sent_once_and_put_in_their_places_again(tab: Open) -> None:
    page = tab()
    page.evaluate("show('one', conversation('What is it?', 'a'))")
    more = "[{ role: 'user', content: [{ type: 'image', image: 'b' }, { type: 'text', text: 'And it?' }] }, "
    more += "{ role: 'assistant', content: [{ type: 'text', text: 'no' }] }]"
    page.evaluate(f"show('one', conversation('What is it?', 'a', {more}))")
    assert page.evaluate("sent.slice(-2)") == [["a"], ["b"]]
    page.evaluate("omnilmmHistory.open('one')")
    opened = page.evaluate("({ ...opened, document: JSON.parse(opened.document) })")
    assert (opened["chat"], opened["names"]) == ("one", ["a", "b"])
    assert opened["document"]["messages"][0]["content"][0]["image"] == "a" * 100
    assert page.evaluate("list()") == [["What is it?", 4]]


def test_an_edit_an_undo_and_a_name(tab: Open) -> None:
    page = tab()
    page.evaluate(f"show('one', conversation('Who {'is ' * 40}it?', 'a'))")
    title = page.evaluate("list()")[0][0]
    assert len(title) == 60 and title.endswith("…")
    page.evaluate("show('one', conversation('Edited', 'b'))")
    assert page.evaluate("list()") == [["Edited", 2]]
    page.evaluate("omnilmmHistory.rename('one', 'Mine')")
    page.evaluate("show('one', conversation('Edited again', 'b'))")
    assert page.evaluate("list()") == [["Mine", 2]]
    page.evaluate("show('one', { messages: [] })")  # its only question was taken back
    assert page.evaluate("list()") == []


def test_beyond_the_bound_the_oldest_go_and_it_is_said(tab: Open) -> None:
    page = tab(most="800")
    for name in ("one", "two", "three"):
        page.evaluate(f"show('{name}', conversation('{name}', 'a'))")
        page.wait_for_timeout(5)  # a later time
    assert page.evaluate("list()") == [["three", 2], ["two", 2]]
    says(page, SAID["dropped"].format(count=1))
    page.evaluate("show('large', conversation('large', 'abcdefghijklmnop'))")
    assert page.evaluate("list()") == [["three", 2], ["two", 2]]
    says(page, SAID["too_large"])


def test_a_full_browser_says_so_and_deletes_nothing(tab: Open) -> None:
    page = tab()
    page.evaluate("show('one', conversation('one', 'a'))")
    full = "throw new DOMException('full', 'QuotaExceededError')"
    page.evaluate(f"() => {{ IDBObjectStore.prototype.put = () => {{ {full} }} }}")
    page.evaluate("show('two', conversation('two', 'a'))")
    says(page, SAID["no_room"])
    assert page.evaluate("list()") == [["one", 2]]


@pytest.mark.parametrize(
    "before",
    [
        "delete window.indexedDB; Object.defineProperty(window, 'indexedDB', { value: undefined })",
        "indexedDB.constructor.prototype.open = () => { throw new DOMException('no', 'SecurityError') }",
        "Storage.prototype.setItem = () => { throw new DOMException('no', 'SecurityError') }",
    ],
    ids=["no database", "refused", "no storage"],
)
def test_a_browser_that_keeps_nothing_says_so_and_nothing_breaks(tab: Open, before: str) -> None:
    page = tab(before=before)
    says(page, SAID["no_store"])
    expect(page.locator(".past-switch input")).not_to_be_checked()
    page.evaluate("show('one', conversation('one', 'a'))")
    assert page.evaluate("sent") == [], "the conversation travelled for nothing"


def test_off_nothing_is_asked_for_and_another_account_sees_nothing(tab: Open) -> None:
    page = tab(on=False)
    page.evaluate("show('one', conversation('one', 'a'), 'ann')")
    assert page.evaluate("sent") == []
    page.evaluate("omnilmmHistory.switchTo(true)")
    page.evaluate("show('one', conversation('one', 'a'), 'ann')")
    assert page.evaluate("list()") == [["one", 2]]
    page.evaluate("show('one', conversation('one', 'a'), 'bob')")
    assert page.evaluate("list()") == [] and not page.evaluate("omnilmmHistory.isOn()")


def test_two_tabs_with_one_chat_do_not_overwrite_each_other(tab: Open) -> None:
    first, second = tab(), tab(before=WAITS)
    first.evaluate("show('one', conversation('one', 'a'))")
    second.evaluate("show('one', conversation('one', 'a'))")  # a tab that was duplicated
    assert second.evaluate("list()") == [["one", 2]]
    more = "{ role: 'user', content: [{ type: 'text', text: 'more' }] }, "
    more += "{ role: 'assistant', content: [{ type: 'text', text: 'x' }] }"
    second.evaluate("() => { waits[150] = 60_000 }")  # the first one has as long as it needs
    second.evaluate(f"show('one', conversation('one', 'a', [{more}]))")
    second.evaluate("() => { waits[150] = 150 }")
    first.evaluate(f"show('one', conversation('one', 'a', [{more}, {more}]))")
    assert sorted(first.evaluate("list()")) == [["one", 4], ["one", 6]]
    second.evaluate(f"show('one', conversation('one', 'a', [{more}, {more}, {more}]))")
    assert sorted(first.evaluate("list()")) == [["one", 6], ["one", 8]]
    first.locator(".past-title").nth(1).wait_for()  # what the other tab wrote is in this one's list


def test_a_chat_whose_reply_was_lost_is_requested_again(tab: Open) -> None:
    page = tab(before=WAITS)
    page.evaluate(
        """() => {
            waits[20000] = 100
            let lost = 2
            const ask = async () => {
                if (lost-- > 0) return
                const pictures = { a: { image: "a", thumbnail: "" } }
                await omnilmmHistory.store({ chat: "one", document: conversation("What is it?", "a"), pictures })
                omnilmmHistory.kept()
            }
            omnilmmHistory.connect({ chat: "one", restore: "", account: "", ask, open: () => {} })
            omnilmmHistory.changed()
        }"""
    )
    expect(page.locator(".past-title")).to_have_text("What is it?")


def test_what_was_deleted_does_not_come_back_from_any_tab(tab: Open) -> None:
    first, second = tab(), tab()
    for page in (first, second):
        page.evaluate("show('one', conversation('one', 'a'))")
    first.evaluate("show('two', conversation('two', 'a'))")
    expect(first.locator(".past-title")).to_have_text(["two", "one"])
    first.get_by_role("button", name=SAID["delete_all"], exact=True).click()
    expect(first.locator(".past-question p")).to_have_text(SAID["ask_all"].format(count=2))
    first.locator(".past-question button").first.click()
    first.locator(".past-list li").first.wait_for(state="detached")
    second.wait_for_function("omnilmmHistory.isDeleted()")  # the browser tells it to the other tab
    second.evaluate("show('one', conversation('changed', 'a'))")
    assert second.evaluate("list()") == []
    says(second, SAID["not_kept"])


def test_all_its_words_are_there() -> None:
    used = {name for name in ENGLISH.past if f"texts.{name}" in SCRIPTS[1] or f'"{name}"' in "".join(SCRIPTS)}
    assert used == set(ENGLISH.past)
