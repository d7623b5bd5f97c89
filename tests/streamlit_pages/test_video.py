"""A video on the Streamlit page: shown as the model sees it, asked about, kept, and given back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.engine.test_video import engine_of
from tests.images.drawn_videos import drawn
from tests.streamlit_pages.person import Person, Site

WATCHED = """() => {
    const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices)
    window.tracks = []
    navigator.mediaDevices.getUserMedia = async (wish) => {
        const stream = await get(wish)
        tracks.push(...stream.getTracks())
        return stream
    }
}"""
COST = "15 frames from 0:00.1 to 0:02.9 · about 1,020 of 2,000 tokens"


def test_a_video_is_recorded_or_shown_with_its_cost_asked_about_kept_and_given_back(
    server: Site, visit: Callable[..., Person], tmp_path: Path
) -> None:
    server.use(engine_of("4.5"))
    person = visit(permissions=["camera"])
    person.page.evaluate(WATCHED)
    recorder, film = person.page.locator(".clip"), person.page.locator(".clip video")
    record = recorder.get_by_role("button")
    for count, end in enumerate((lambda: person.page.keyboard.press("Escape"), record.click), 1):
        person.button("clip-open").click()
        record.click()
        person.until(lambda: bool(film.evaluate("video => video.videoWidth > 0")))
        expect(recorder).to_contain_text(re.compile(r"0:(0[1-9]|[1-5]\d) / 1:00"))
        end()
        expect(recorder).to_have_count(0)  # it closes its popover
        person.until(lambda: person.page.evaluate("tracks.every(track => track.readyState === 'ended')"))
        expect(person.attached).to_have_count(count)  # also when the popover was closed
        person.wait_until_stable()  # a picture more moves the popovers
    for left in (1, 0):
        person.button("drop-0").click()
        expect(person.attached).to_have_count(left)
    clip = drawn(tmp_path / "clip.mp4", 30, 10)
    person.attach(clip)
    person.button("pending-seen-0").click()
    dialog = person.page.get_by_role("dialog")
    expect(dialog).to_contain_text(COST)
    expect(dialog).to_contain_text("keep the frames, not the video file")
    expect(dialog.locator("img")).to_have_count(1)
    person.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    person.wait_until_stable()
    person.ask("What happens?")
    person.answered()
    expect(person.message(0)).to_contain_text("video of 0:03.0, 15 frames of it")
    person.ask("And then?")
    person.answered(2)
    person.edit(0, "What else?")
    person.answered()
    expect(person.message(0)).to_contain_text("video of 0:03.0, 15 frames of it")
    person.export(tmp_path / "talk.json")
    part = json.loads((tmp_path / "talk.json").read_text())["messages"][0]["content"][0]
    assert part["type"] == "video" and len(part["frames"]) == len(part["times_s"]) == 15
    person.press("undo")
    expect(person.attached).to_have_count(1)
    person.load(tmp_path / "talk.json")
    expect(person.message(0)).to_contain_text("video of 0:03.0, 15 frames of it")


def test_a_model_that_sees_no_videos_says_which_do(site: Site, person: Person, tmp_path: Path) -> None:
    person.drop(drawn(tmp_path / "clip.mp4", 10, 10))
    expect(person.notice).to_contain_text("cannot look at videos here. These models can: ")
    expect(person.attached).to_have_count(0)
