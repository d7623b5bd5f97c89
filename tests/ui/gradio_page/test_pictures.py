"""Pictures at full size, as the model sees them, from the camera, and files that are none."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture, Video
from omnilmm.engine.events import PictureSlice
from omnilmm.engine.options import Options
from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.gradio_page import context
from omnilmm.ui.gradio_page.context import OUTDATED
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.texts import ENGLISH
from omnilmm.ui.upload import open_upload
from tests.images.drawn_videos import drawn
from tests.ui.gradio_page.tab import Tab, answers_with, boxed, red
from tests.ui.scripted import Held, ScriptedEngine, capable, slices_as_asked
from tests.waiting import wait_until


def test_a_picture_opens_at_full_size_by_its_number(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    tab.session.load(
        Conversation().with_message("user", red(900, 700), red(5, 3), "?").with_message("assistant", "Red.")
    )

    def size(number: int) -> tuple[int, int]:
        address = page.pictures.open(tab.request, number)
        return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size

    assert (size(0), size(1)) == ((900, 700), (5, 3))
    assert page.pictures.open(tab.request, -1) == page.pictures.open(tab.request, 2) == ""
    engine.script = held = Held("a", "b")
    turn = page.answers.ask_sample(page.widgets.samples[0][0])(tab.request, 2, "", *tab.settings())
    next(turn)
    assert size(0) != (900, 700), "of the turn that is on the page: a sample begins a new chat"
    held.goes_on.set()
    list(turn)


def test_what_is_attached_is_looked_at_and_what_cannot_be_used_is_said(
    page: Page, tab: Tab, engine: ScriptedEngine, picture: Path, tmp_path: Path
) -> None:
    engine.picture_slices = (PictureSlice((0, 0, 6, 4), 112, 112, 64),)
    notes = tmp_path / "<b>notes.png"
    notes.write_text("no picture")
    good, bad = tab.upload(picture), tab.upload(notes)
    updates = page.pictures.show_slices(tab.request, {"text": "", "files": [bad, good, str(picture)]})
    assert updates[page.widgets.bad] == {"of": 3, "bad": [0, 2]}
    notice = updates[page.widgets.notice]
    assert "bnotes.png: This file is not a picture" in notice and "not among your uploads" in notice
    seen = updates[page.widgets.seen]
    assert seen.count("<figure>") == 1 and "overview 112×112: 64 tokens" in seen
    updates = page.pictures.show_slices(tab.request, {"text": "", "files": [good]})
    assert isinstance(updates[page.widgets.notice], dict), "a notice about something else stays"
    updates = page.pictures.show_slices(tab.request, {"text": "", "files": []})
    assert ENGLISH.seen_nothing in updates[page.widgets.seen]
    tab.ask("?", good)
    assert "<figure>" in page.pictures.show_slices(tab.request, {"text": "", "files": []})[page.widgets.seen]


def test_files_that_never_came_here_are_named_without_becoming_markup(page: Page, tab: Tab) -> None:
    said = page.pictures.refuse(tab.request, ["<img src=x>.txt", "b.txt"])
    assert "&lt;img src=x&gt;.txt, b.txt: This file is not a picture" in said and "<img" not in said


def test_the_camera_opens_and_closes_and_its_photo_joins_what_is_in_the_box(page: Page, tab: Tab) -> None:
    shown = [page.pictures.show_camera(tab.request)["visible"] for _ in range(3)]
    assert shown == [True, False, True]
    box = {"text": "What?", "files": [{"path": "first.png"}]}
    updates = page.pictures.attach(tab.request, {"path": "photo.jpg"}, box)
    assert boxed(page, updates) == {"text": "What?", "files": ["first.png", "photo.jpg"]}
    assert updates[page.widgets.photo] is None and updates[page.widgets.camera_panel]["visible"] is False
    assert page.pictures.show_camera(tab.request)["visible"] is True, "it was closed"
    updates = page.pictures.attach(tab.request, {"path": "photo.jpg"}, None)
    assert boxed(page, updates) == {"text": "", "files": ["photo.jpg"]}
    assert list(page.pictures.attach(tab.request, None, box)) == [page.widgets.photo]


def test_a_video_that_two_requests_want_at_once_is_decoded_once(
    page: Page, tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_with(page, ScriptedEngine(card=capable(video=True)))
    path = tab.upload(drawn(tmp_path / "a.mp4", 2, 10))
    decoded: list[str] = []

    def decode(name: str, *source: Any) -> Picture | Video:
        decoded.append(name)
        with suppress(AssertionError):  # long enough for the other one to come, if it may
            wait_until(lambda: len(decoded) > 1, 0.5)
        return open_upload(name, *source)

    monkeypatch.setattr(context, "open_upload", decode)
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(lambda _: page.context.open_upload(tab.visitor, path), range(2))
    assert first is second and decoded == ["a.mp4"]


@pytest.mark.parametrize("box", [None, {"text": "", "files": []}])
def test_without_a_picture_no_slices_are_shown(page: Page, tab: Tab, box: dict[str, object] | None) -> None:
    updates = page.pictures.show_slices(tab.request, box)  # type: ignore[arg-type]
    assert updates[page.widgets.bad] == {"of": 0, "bad": []}


def test_what_the_model_sees_follows_the_settings_of_the_page(page: Page, tmp_path: Path) -> None:
    tab, w = Tab(page), page.widgets
    given: list[Options | None] = []

    def slices_by(options: Options | None) -> tuple[PictureSlice, ...]:
        given.append(options)
        return slices_as_asked(options)

    engine = ScriptedEngine(card=capable(max_slices=9, finer_detail=True))
    engine.picture_slices = slices_by
    page.context.provider = ModelProvider.holding(engine)
    page.choices.settings(tab.visitor)
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    box = {"text": "", "files": [tab.upload(path)]}
    for chosen, finer in ((36, False), (400, True), (0, True)):
        assert w.seen in page.pictures.set_detail(tab.request, box, chosen, finer)
    assert page.choices.reset(tab.request)[w.seen] == OUTDATED  # so that the browser asks again
    page.pictures.show_slices(tab.request, box)
    page.answers.options(tab.visitor, tab.settings(max_slices=7, finer_detail=True))
    page.pictures.show_slices(tab.request, box)
    assert w.seen not in page.choices.settings(tab.visitor)
    engine.card = capable(max_slices=4)  # another model
    assert page.choices.settings(tab.visitor)[w.seen] == OUTDATED
    page.pictures.show_slices(tab.request, box)
    seen = [(options.max_slices, options.finer_detail) for options in given if options]
    assert seen == [(36, None), (36, True), (1, True), (None, None), (7, True), (None, None)]
