"""Ways into the Gradio page for pictures, and what it shows of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import APIResponse, Route, expect

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, PictureSlice, TextDelta
from omnilmm.sentences import Sentence
from omnilmm.ui import texts
from omnilmm.ui.texts import ENGLISH
from tests.pages.visitor import SAMPLES, Site, Visitor, drop, serve
from tests.ui.scripted import ScriptedEngine, capable, finished, slices_as_asked
from tests.waiting import HOLD_S

Visit = Callable[..., Visitor]

CIRCLE, STARS, HEART = (SAMPLES[name] for name in ("circle", "stars", "heart"))


@pytest.fixture(scope="module")
def able() -> Iterator[Site]:
    """The page with a model that can do everything."""
    with serve(ScriptedEngine(card=capable(max_slices=9, finer_detail=True))) as site:
        yield site


def test_a_picture_is_pasted_from_the_clipboard(visit: Visit, site: Site) -> None:
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    visitor.page.evaluate(
        """async bytes => {
            const picture = new Blob([new Uint8Array(bytes)], { type: "image/png" })
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })])
        }""",
        list(CIRCLE.picture.read_bytes()),
    )
    visitor.box.focus()
    visitor.page.keyboard.press("Control+V")
    visitor.until(lambda: visitor.attached.count() == 1 and visitor.send.is_enabled())
    visitor.ask(CIRCLE.question)
    assert visitor.answered() == CIRCLE.answer


def test_pictures_dropped_or_pasted_anywhere_are_attached_and_what_is_none_is_said(
    visit: Visit, able: Site, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(CIRCLE.picture.read_bytes()[:400])
    visitor = visit(able.address)
    visitor.box.fill("What are they?")
    for count, target in enumerate((visitor.box, visitor.page.locator("#chat"), visitor.page.locator("#header")), 1):
        drop(visitor.page, target, (STARS, CIRCLE, HEART)[count - 1].picture)
        visitor.until(lambda: visitor.attached.count() == count and visitor.send.is_enabled())  # noqa: B023
    drop(visitor.page, visitor.page.locator("#chat"), tmp_path / "notes.txt")
    expect(visitor.notice).to_have_text(str(Sentence("of_file", name="notes.txt", reason=Sentence("no_picture"))))
    expect(visitor.page.locator("[data-dropping]")).to_have_count(0)
    visitor.box.press("End")
    visitor.box.press("!")
    expect(visitor.notice).to_have_count(0)  # its cause is over
    visitor.choose(STARS.picture, tmp_path / "broken.png")
    expect(visitor.notice).to_contain_text("broken.png")
    expect(visitor.attached).to_have_count(4)  # the good one stays, the other does not
    visitor.page.evaluate(
        """bytes => {
            const pasted = new DataTransfer()
            pasted.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }))
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: pasted, bubbles: true }))
        }""",
        list(CIRCLE.picture.read_bytes()),
    )
    expect(visitor.attached).to_have_count(5)
    expect(visitor.notice).to_have_count(0)
    visitor.until(visitor.send.is_enabled)
    expect(visitor.box).to_have_value("What are they?!")
    visitor.box.press("Enter")
    visitor.answered()
    asked, _ = able.engine.asked[-1]
    shown = [picture.image.tobytes() for picture in asked.messages[-1].pictures]
    opened = [Image.open(sample.picture).convert("RGB").tobytes() for sample in (STARS, CIRCLE, HEART, STARS, CIRCLE)]
    assert shown == opened
    visitor.ask("And this one?", HEART.picture)
    visitor.answered(2)
    expect(visitor.pictures).to_have_count(6)
    assert [len(message.pictures) for message in able.engine.asked[-1][0].messages] == [5, 0, 1]


def test_what_the_model_sees_is_shown_before_and_after_asking_with_as_many_slices_as_are_chosen(
    visit: Visit, able: Site
) -> None:
    able.engine.picture_slices = tuple(
        PictureSlice(box, 112, 112, 64) for box in ((0, 0, 200, 100), (0, 0, 100, 100), (100, 0, 200, 100))
    )
    visitor = visit(able.address)
    panel = visitor.page.locator("#seen-panel")
    panel.get_by_role("button", name=ENGLISH.seen).click()
    visitor.until(lambda: texts.ENGLISH.seen_nothing in panel.inner_text())
    visitor.attach(STARS.picture)
    visitor.until(lambda: "overview 112×112: 64 tokens" in panel.inner_text())
    expect(panel).to_contain_text("2 slices of 112×112: 128 tokens")
    visitor.until(lambda: panel.locator("img").evaluate("image => image.naturalWidth") > 0)
    visitor.ask("What is it?")
    visitor.answered()
    expect(panel).to_contain_text("2 slices of 112×112: 128 tokens")
    able.engine.picture_slices = slices_as_asked
    slices, detail = visitor.page.locator("#max_slices"), visitor.page.locator("#finer-detail input")
    number = slices.locator("input[type=number]")
    expect(slices.get_by_role("button")).to_have_count(0)  # Gradio's own reset does not know the model
    number.fill("40")
    number.press("Tab")
    expect(number).to_have_value("36")
    expect(panel).to_contain_text("36 slices of 112×112: 2304 tokens")
    slices.locator("input[type=range]").press("ArrowLeft")
    expect(panel).to_contain_text("35 slices of 112×112: 2240 tokens")
    detail.check()
    expect(panel).to_contain_text("35 slices of 112×112: 8960 tokens")
    visitor.ask("And now?")
    visitor.answered(2)
    _, options = able.engine.asked[-1]
    assert options and (options.max_slices, options.finer_detail) == (35, True)
    visitor.attach(CIRCLE.picture)
    expect(panel).to_contain_text("35 slices of 112×112: 8960 tokens")
    visitor.press("reset")
    expect(panel).to_contain_text("9 slices of 112×112: 576 tokens")
    expect(number).to_have_value("9")
    expect(detail).not_to_be_checked()
    expect(visitor.attached).to_have_count(1)
    may_slice = threading.Event()  # what is attached while the server still slices the pictures before is shown, too
    able.engine.picture_slices = lambda options: slices_as_asked(options) if may_slice.wait(HOLD_S) else ()
    visitor.attach(HEART.picture)
    visitor.attach(STARS.picture)
    may_slice.set()
    expect(panel.locator("figure")).to_have_count(3)


def test_what_the_model_sees_stays_the_newest_if_the_browser_applies_an_older_drawing_after_it(
    visit: Visit, able: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box is emptied, and nothing is in the conversation yet: of that the browser hears after the answer."""
    visitor, drawn, ends = visit(able.address), threading.Event(), threading.Event()
    held: list[tuple[Route, APIResponse]] = []
    draw, events = able.page.context.seen, able.page.demo.fns

    def script(_: Conversation) -> Iterator[Event]:
        yield TextDelta("Seen.", 1)
        assert ends.wait(HOLD_S)
        yield finished("Seen.")

    def seen(*what: Any) -> str:
        drawing = draw(*what)
        if len(what) > 1 and not what[1]:
            drawn.set()
        return drawing

    def late(route: Route) -> None:
        response, event = route.fetch(), route.request.post_data_json
        is_of_emptied = events[event["fn_index"]].fn.__name__ == "show_slices" and not event["data"][0]["files"]
        held.append((route, response)) if is_of_emptied and not held else route.fulfill(response=response)

    monkeypatch.setattr(able.engine, "script", script)
    monkeypatch.setattr(able.page.context, "seen", seen)
    visitor.attach(CIRCLE.picture)
    visitor.page.route("**/queue/join*", late)
    visitor.ask("What is it?")
    visitor.until(drawn.is_set)
    ends.set()
    visitor.answered()
    shown = visitor.page.locator("#seen figure")
    visitor.unfold("seen-panel")
    expect(shown).to_have_count(1)
    with visitor.page.expect_request("**/queue/join*"):  # it is asked for anew
        (route, response), *_ = held
        route.fulfill(response=response)
    expect(shown).to_have_count(1)


def test_photos_of_phones_are_attached_seen_and_answered(visit: Visit, able: Site, tmp_path: Path) -> None:
    """HEIC, whose name no browser on Linux knows as a picture and none draws; AVIF."""
    heic = (ROOT / "tests" / "images" / "data" / "turned.heic").read_bytes()
    (tmp_path / "IMG_1.HEIC").write_bytes(heic)
    Image.new("RGB", (96, 64), "red").save(tmp_path / "photo.avif")
    visitor = visit(able.address)
    panel = visitor.page.locator("#seen-panel")
    panel.get_by_role("button", name=ENGLISH.seen).click()
    visitor.until(lambda: texts.ENGLISH.seen_nothing in panel.inner_text())
    visitor.attach(tmp_path / "IMG_1.HEIC")
    visitor.until(lambda: ENGLISH.picture_name(64, 96) in panel.inner_text())  # upright
    visitor.attach(tmp_path / "photo.avif")
    # As on Windows and macOS, where the system knows the name.
    known = {"name": "IMG_2.heic", "mimeType": "image/heic", "buffer": heic}
    visitor.page.locator("#question input[type=file]").set_input_files([known])
    visitor.page.locator("#question .thumbnail-item[data-kind=HEIC]").wait_for()
    visitor.until(lambda: visitor.attached.count() == 3 and visitor.send.is_enabled())
    expect(visitor.page.locator("[data-kind]")).to_have_count(1)
    drop(visitor.page, visitor.box, tmp_path / "IMG_1.HEIC")
    visitor.until(lambda: visitor.attached.count() == 4 and visitor.send.is_enabled())
    visitor.ask("What are these?")
    visitor.answered()
    asked, _ = able.engine.asked[-1]
    assert [picture.image.size for picture in asked.pictures] == [(64, 96), (96, 64), (64, 96), (64, 96)]
    visitor.until(lambda: visitor.pictures.count() == 4)
    drawn = "images => images.map((image) => image.naturalWidth > 0)"
    visitor.until(lambda: visitor.pictures.evaluate_all(drawn) == [True] * 4)
