"""A video on the Gradio page: shown as the model sees it, asked about, kept, and given back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from omnilmm.engine.local import LocalEngine
from omnilmm.ui.texts import ENGLISH, texts_in
from omnilmm.versions import AS_PICTURES
from tests.engine.test_video import engine_of
from tests.images.drawn_videos import drawn
from tests.pages.visitor import SAMPLES, Site, Visitor, drop, serve

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def seeing() -> Iterator[Site]:
    with serve(engine_of("4.5")) as site:
        yield site


def test_a_video_is_shown_with_its_cost_asked_about_kept_and_given_back(
    visit: Visit, seeing: Site, tmp_path: Path
) -> None:
    clip, broken = drawn(tmp_path / "clip.mp4", 30, 10), tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:60])
    visitor = visit(seeing.address)
    visitor.choose(broken)
    expect(visitor.notice).to_contain_text("broken.mp4: This video is damaged")
    expect(visitor.attached).to_have_count(0)
    drop(visitor.page, visitor.page.locator("#chat"), clip)
    visitor.until(lambda: visitor.attached.count() == 1 and visitor.send.is_enabled())
    visitor.unfold("seen-panel")
    strip = visitor.page.locator("#seen img.strip")
    expect(strip).to_have_attribute("alt", "video of 0:03.0, 15 frames of it")
    expect(visitor.page.locator("#seen")).to_contain_text(
        "15 frames from 0:00.1 to 0:02.9 · about 1,020 of 2,000 tokens"
    )
    visitor.page.locator("#max_new_tokens input[type=number]").fill("6")
    visitor.ask("What happens?")
    visitor.noted()
    film = visitor.page.locator("#chat .user .film")
    expect(film).to_have_count(1)
    visitor.ask("And then?")
    visitor.noted(2)
    expect(visitor.newest_note).to_contain_text("reused")
    film.click()
    expect(visitor.page.locator("dialog[open] img, #full img, .full img").first).to_be_visible()
    visitor.page.keyboard.press("Escape")
    visitor.export(tmp_path / "talk.json")
    part = json.loads((tmp_path / "talk.json").read_text())["messages"][0]["content"][0]
    assert part["type"] == "video" and len(part["frames"]) == len(part["times_s"]) == 15
    visitor.reload()
    expect(visitor.page.locator("#chat .user .film")).to_have_count(1)
    visitor.press("undo")
    expect(visitor.box).to_have_value("And then?")
    visitor.box.fill("")
    visitor.press("undo")
    expect(visitor.attached).to_have_count(1)
    visitor.until(visitor.send.is_enabled)
    visitor.ask("Once more?")
    visitor.noted()
    expect(visitor.page.locator("#chat .user .film")).to_have_count(1)
    visitor.load(tmp_path / "talk.json")
    visitor.until(lambda: len(visitor.notes()) == 0 and visitor.page.locator("#chat .user .film").count() == 1)


A_SECOND_OR_MORE = re.compile(r"0:(0[1-9]|[1-5]\d) / 1:00")  # of the clock, which may jump
A_MINUTE_LATER = """() => {
    const now = performance.now.bind(performance)
    performance.now = () => now() + 60_000
}"""
LITTLE_MAY_BE_UPLOADED = """() => {
    gradio_config.max_file_size = 1
    document.getElementById("clip").replaceChildren()  // which fills it again
}"""


def test_the_camera_records_a_video_and_takes_a_photo_and_is_off_afterwards(visit: Visit, seeing: Site) -> None:
    visitor = visit(seeing.address, permissions=["camera"])
    visitor.page.evaluate(
        """() => {
            const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices)
            const devices = window.devices = { tracks: [], refuse: "NotAllowedError", wishes: [] }
            navigator.mediaDevices.getUserMedia = async (wish) => {
                if (devices.refuse) throw new DOMException("refused by the test", devices.refuse)
                const stream = await get(wish)
                devices.wishes.push(Object.keys(wish).filter(kind => wish[kind]))
                devices.tracks.push(...stream.getTracks())
                return stream
            }
        }"""
    )
    camera, panel, clip = (visitor.page.locator(place) for place in ("#camera", "#camera-panel", "#clip"))
    running = "() => devices.tracks.filter(track => track.readyState === 'live').length"
    camera.click()
    record = clip.get_by_role("button")
    expect(record).to_have_text(ENGLISH.clip["record"])
    record.click()
    expect(clip).to_contain_text(ENGLISH.clip["denied"])
    visitor.page.evaluate("() => { devices.refuse = '' }")
    record.click()
    expect(record).to_have_text(ENGLISH.clip["stop"])
    camera.click()  # closes the panel
    expect(panel).to_be_hidden()
    visitor.until(lambda: visitor.page.evaluate(running) == 0)
    expect(visitor.attached).to_have_count(0)
    camera.click()
    record.click()
    visitor.until(lambda: clip.locator("video").evaluate("video => video.videoWidth > 0"))
    expect(clip).to_contain_text(A_SECOND_OR_MORE)
    record.click()
    visitor.until(lambda: visitor.attached.count() == 1 and visitor.send.is_enabled())
    expect(panel).to_be_hidden()
    visitor.until(lambda: visitor.page.evaluate(running) == 0)
    assert visitor.page.evaluate("devices.wishes.flat()") == ["video"] * 2
    visitor.unfold("seen-panel")
    expect(visitor.page.locator("#seen img.strip")).to_be_visible()
    camera.click()
    panel.locator("#photo button:visible").first.click()  # asks for the camera
    video = panel.locator("#photo video")
    visitor.until(lambda: bool(video.count()) and video.evaluate("video => video.videoWidth > 0"))
    panel.get_by_role("button", name="capture photo").click()
    visitor.until(lambda: visitor.attached.count() == 2 and visitor.send.is_enabled())
    expect(panel).to_be_hidden()
    visitor.until(lambda: visitor.page.evaluate(running) == 0)
    visitor.page.locator("#max_new_tokens input[type=number]").fill("6")
    visitor.ask("What is in them?")
    visitor.noted()
    expect(visitor.pictures).to_have_count(2)
    expect(visitor.page.locator("#chat .user .film")).to_have_count(1)

    def kept(count: int) -> None:
        visitor.until(lambda: visitor.attached.count() == count and visitor.send.is_enabled())
        expect(panel).to_be_hidden()
        visitor.until(lambda: visitor.page.evaluate(running) == 0)

    chinese = visitor.page.get_by_text("中文", exact=True)  # the recorder is drawn anew, what it recorded is kept
    for count, ends in enumerate((lambda: visitor.page.evaluate(A_MINUTE_LATER), chinese.click), 1):
        camera.click()
        record.click()
        expect(clip).to_contain_text(A_SECOND_OR_MORE)  # and so there is something recorded
        ends()
        kept(count)
    camera.click()
    expect(record).to_have_text(texts_in("zh").clip["record"])
    expect(panel.locator("#photo button > .wrap")).to_have_text(texts_in("zh").take_photo)
    visitor.page.evaluate(LITTLE_MAY_BE_UPLOADED)
    record.click()
    kept(3)


def test_the_built_in_model_says_which_models_see_videos_and_could_itself_see_still_drawings(
    visitor: Visitor, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = [Image.open(SAMPLES[name].picture).convert("RGB").resize((320, 320)) for name in ("circle", "heart")]
    clip = drawn(tmp_path / "clip.mp4", 20, 10, (320, 320), images=[image for image in shown for _ in range(10)])
    visitor.choose(clip)
    expect(visitor.notice).to_contain_text("cannot look at videos here. These models can: ")
    expect(visitor.attached).to_have_count(0)
    visitor.press("camera")
    expect(visitor.page.locator("#photo")).to_be_visible()
    expect(visitor.page.locator("#clip")).to_have_count(0)
    monkeypatch.setattr(engine, "card", engine.card.model_copy(update={"video": True}))
    monkeypatch.setattr(engine.processor, "video", AS_PICTURES)
    visitor.ask("Which picture shows a heart?", clip.rename(tmp_path / "stills.mp4"))
    assert visitor.answered()
    expect(visitor.page.locator("#chat .user .film")).to_have_attribute("alt", "video of 0:02.0, 2 frames of it")
