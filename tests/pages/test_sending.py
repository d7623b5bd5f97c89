"""Sending, waiting and reading on the Gradio page: what is in view, what Enter does, what an answer looks like."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Route, expect
from starlette.types import Message, Receive, Scope, Send

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Progress, TextDelta
from omnilmm.ui.gradio_page.routes import Gate
from omnilmm.ui.texts import ENGLISH
from tests.pages.visitor import Site, Visitor, serve
from tests.ui.scripted import ScriptedEngine, capable, echo, finished, saying
from tests.waiting import HOLD_S, wait_until

Visit = Callable[..., Visitor]

PARAGRAPHS = "\n\n".join(f"Paragraph {number}" for number in range(40))
RICH = """- [x] done
- [ ] open

| left | middle | right |
|:-----|:------:|------:|
| a    | b      | c     |
"""


@pytest.fixture(scope="module")
def able() -> Iterator[Site]:
    """The page with a model that can do everything."""
    with serve(ScriptedEngine(card=capable())) as site:
        yield site


class Dictated:
    """A script that says what it is given, piece by piece; an empty piece ends the answer."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __call__(self, _: Conversation) -> Iterator[Event]:
        said = ""
        while True:
            try:
                piece = self.pieces.get(timeout=0.1)
            except queue.Empty:
                yield Progress("encoding")
                continue
            said += piece
            yield TextDelta(piece, len(said)) if piece else finished(said)
            if not piece:
                return


def is_at_the_end(visitor: Visitor) -> bool:
    area = "area => area.scrollHeight - area.clientHeight - area.scrollTop < 4"
    return bool(visitor.page.locator("#chat .bubble-wrap").evaluate(area))


# Whether an area has not moved for as long as two frames of a slow browser may take.
STANDS_STILL = """area => new Promise((done) => {
    const before = area.scrollTop
    setTimeout(() => done(area.scrollTop === before), 200)
})"""


def test_the_end_is_followed_until_one_scrolls_up_and_a_question_brings_itself_into_view(
    visit: Visit, able: Site
) -> None:
    able.engine.script = dictated = Dictated()
    visitor = visit(able.address)
    chat, newest = visitor.page.locator("#chat .bubble-wrap"), visitor.page.locator("#newest")
    visitor.ask("First?")
    visitor.until(lambda: visitor.note != "")
    dictated.pieces.put(PARAGRAPHS)
    visitor.until(lambda: "Paragraph 39" in visitor.answer and is_at_the_end(visitor))
    expect(newest).to_be_hidden()
    end = chat.evaluate("area => area.scrollTop")
    chat.hover()
    visitor.page.mouse.wheel(0, -300)
    expect(newest).to_be_visible()
    visitor.until(lambda: chat.evaluate("area => area.scrollTop") <= end - 299)  # a wheel scrolls smoothly
    visitor.until(lambda: chat.evaluate(STANDS_STILL))
    before = chat.evaluate("area => area.scrollTop")
    dictated.pieces.put("\n\nMore\n\n" + PARAGRAPHS)
    visitor.until(lambda: visitor.answer.count("Paragraph 39") == 2)
    visitor.page.wait_for_timeout(400)  # Gradio scrolls only then
    assert chat.evaluate("area => area.scrollTop") == before, "it jumps while somebody reads"
    newest.click()
    visitor.until(lambda: is_at_the_end(visitor))
    expect(newest).to_be_hidden()
    visitor.page.mouse.wheel(0, -2000)
    expect(newest).to_be_visible()
    dictated.pieces.put("")
    visitor.answered()
    assert not is_at_the_end(visitor)
    visitor.ask("Second?")
    expect(visitor.page.locator("#chat .user.message", has_text="Second?")).to_be_in_viewport()
    dictated.pieces.put("Yes.")
    dictated.pieces.put("")
    visitor.answered(2)
    visitor.until(lambda: is_at_the_end(visitor))


def test_stop_is_within_reach_on_a_phone_wherever_one_has_scrolled(visit: Visit, able: Site) -> None:
    able.engine.script = dictated = Dictated()
    visitor = visit(able.address, viewport={"width": 390, "height": 844}, is_mobile=True)
    visitor.ask("First?")
    dictated.pieces.put("Well")
    visitor.until(lambda: visitor.answer == "Well")
    expect(visitor.stop).to_be_in_viewport(ratio=1)
    anywhere = visitor.page.locator("#stop-anywhere")
    expect(anywhere).to_be_hidden()
    visitor.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(anywhere).to_be_in_viewport(ratio=1)
    anywhere.click()
    visitor.until(lambda: visitor.note == ENGLISH.stopped)
    able.engine.script = echo
    visitor.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    visitor.ask("Second?")
    expect(visitor.page.locator("#chat .user.message", has_text="Second?")).to_be_in_viewport()


ENTER = """(area, more) => area.dispatchEvent(
    new KeyboardEvent("keydown", { key: "Enter", keyCode: 13, bubbles: true, cancelable: true, ...more }))"""

BUSY = "() => { setTimeout(() => { const end = performance.now() + 500; while (performance.now() < end); }) }"


def test_a_question_is_sent_once_and_whole(visit: Visit, able: Site) -> None:
    able.engine.script, asked = echo, able.engine.asked
    visitor = visit(able.address)
    before = len(asked)
    visitor.box.press("Enter")
    expect(visitor.notice).to_contain_text("empty")
    visitor.wait_until_stable()
    visitor.box.focus()
    # Chinese is composed; the Enter that ends a composition is not the one that sends.
    browser = visitor.page.context.new_cdp_session(visitor.page)
    browser.send("Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5})
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    browser.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
    browser.send("Input.insertText", {"text": "你好"})
    browser.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    expect(visitor.box).to_have_value("你好")
    expect(visitor.notice).to_have_count(0)  # it is no longer empty
    visitor.box.evaluate(ENTER, {"keyCode": 229, "isComposing": True})
    visitor.box.evaluate("area => area.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true }))")
    visitor.box.evaluate(ENTER, {"keyCode": 229, "isComposing": False})  # Safari's order
    assert len(asked) == before
    for _ in range(3):  # keys of which nothing comes, as before Gradio is ready: it listens to what follows them
        visitor.box.evaluate(ENTER, {})
    visitor.page.evaluate(BUSY)  # both are there before the page handles one
    visitor.box.press("Enter", no_wait_after=True)
    visitor.box.press("Enter")
    visitor.answered()
    visitor.box.fill("Twice?")
    visitor.send.dblclick()
    visitor.answered(2)
    visitor.box.evaluate(
        "area => { area.value = 'Half \\ud83d'; area.dispatchEvent(new Event('input', { bubbles: true })) }"
    )
    visitor.box.press("Enter")
    assert visitor.answered(3) == "Half \N{REPLACEMENT CHARACTER}"
    visitor.ask("Whole?")
    visitor.answered(4)
    sent = ["你好", "Twice?", "Half \N{REPLACEMENT CHARACTER}", "Whole?"]
    assert [conversation.messages[-1].text for conversation, _ in asked[before:]] == sent


def test_what_is_typed_when_an_answer_has_just_ended_stays(
    visit: Visit, able: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio would send the emptied box again once the handler has returned."""
    able.engine.script, returns = echo, threading.Event()
    handled = able.page.demo.handle_streaming_outputs

    async def held(*args: Any, final: bool, **more: Any) -> list[Any]:
        while final and not returns.is_set():
            await asyncio.sleep(0.02)
        return await handled(*args, final=final, **more)

    monkeypatch.setattr(able.page.demo, "handle_streaming_outputs", held)
    visitor = visit(able.address)
    visitor.ask("First?")
    visitor.answered()
    visitor.box.fill("Second?")
    stored = "Object.values(sessionStorage).some(value => value.includes('First?'))"
    assert not visitor.page.evaluate(stored)
    returns.set()
    visitor.until(lambda: visitor.page.evaluate(stored))  # what comes after it
    expect(visitor.box).to_have_value("Second?")


def test_what_was_half_typed_comes_back_also_if_the_browser_gets_the_whole_answer_at_once(
    visit: Visit, able: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio's script would change the first update, which it still has to apply, into the second."""
    able.engine.script, lasts, answered = echo, threading.Event(), threading.Event()
    visitor, drawn, sent = visit(able.address), able.page.context.seen, able.page.demo.handle_streaming_diffs
    visitor.ask("First?")
    visitor.answered()
    visitor.box.fill("half a thought")
    visitor.page.locator("#chat .edit").first.click()
    expect(visitor.box).to_have_value("First?")
    able.engine.script = said = Dictated()
    said.pieces.put("Seen.")

    def seen(*what: Any) -> str:
        is_asked_for = len(what) > 1  # and not a part of the answer
        assert not is_asked_for or lasts.wait(HOLD_S)
        return drawn(*what)

    def diffs(*what: Any, final: bool, **more: Any) -> list[Any]:
        answered.set() if final else said.pieces.put("")  # ends the answer once its beginning is sent
        return sent(*what, final=final, **more)

    def late(route: Route) -> None:
        response = route.fetch()
        assert "Second?" not in (route.request.post_data or "") or answered.wait(HOLD_S)
        route.fulfill(response=response)

    monkeypatch.setattr(able.page.context, "seen", seen)
    monkeypatch.setattr(able.page.demo, "handle_streaming_diffs", diffs)
    visitor.page.route("**/queue/join*", late)
    visitor.page.locator("#do-show-slices").evaluate("button => button.click()")  # whose answers keep a connection open
    visitor.ask("Second?")
    visitor.until(lambda: visitor.answers() == ["Seen."])
    lasts.set()
    expect(visitor.box).to_have_value("half a thought")
    expect(visitor.page.locator("#cancel")).to_be_hidden()


def test_an_answer_is_heard_of_if_the_receipt_of_its_question_overtakes_the_end_of_the_stream_before(
    visit: Visit, able: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    able.engine.script, passed, taken, passes = echo, Gate.__call__, threading.Event(), threading.Event()
    visitor, pending = visit(able.address), able.page.demo._queue.pending_event_ids_session
    wait_until(lambda: not list(pending.values())[-1])  # nothing of what the page asked for when it was opened

    async def held(gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        async def late(message: Message) -> None:
            while b"close_stream" in message.get("body", b"") and not passes.is_set():
                taken.set()
                await asyncio.sleep(0.02)
            await send(message)

        await passed(gate, scope, receive, late)

    monkeypatch.setattr(Gate, "__call__", held)
    visitor.page.locator("#do-show-slices").evaluate("button => button.click()")
    wait_until(taken.is_set)
    with visitor.page.expect_response("**/queue/join*") as receipt:
        visitor.ask("Is it heard of?")
    receipt.value.finished()
    visitor.page.evaluate("() => new Promise(done => setTimeout(done, 100))")  # in which it would listen in vain
    passes.set()
    visitor.answered()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ticks_columns_and_the_chosen_language_can_be_seen(visit: Visit, able: Site, scheme: str) -> None:
    able.engine.script = saying(RICH)
    visitor = visit(able.address, color_scheme=scheme)
    visitor.ask("What is it?")
    visitor.answered()

    for cells in (visitor.page.locator("#chat th"), visitor.page.locator("#chat td")):
        expect(cells).to_have_count(3)
        for number, side in enumerate(("left", "center", "right")):
            expect(cells.nth(number)).to_have_css("text-align", side)
    ticks = visitor.page.locator("#chat input[type=checkbox]")
    expect(ticks).to_have_count(2)
    expect(ticks.first).to_have_css("background-image", re.compile("svg"))
    expect(ticks.last).to_have_css("background-image", "none")
    languages = visitor.page.locator("#language label")
    expect(languages).to_have_count(2)
    colours = "labels => new Set(labels.map(label => getComputedStyle(label).backgroundColor)).size"
    visitor.until(lambda: languages.evaluate_all(colours) == 2)
