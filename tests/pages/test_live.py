"""The live view in Chromium: questions are spoken, answered aloud, interrupted; devices, strangers, two people."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from omnilmm.engine.local import LocalEngine
from omnilmm.live.detection import detector
from omnilmm.live.recognition import load_recogniser
from omnilmm.live.talk import Parts
from omnilmm.ui.gradio_page.live import MOST_PER_VISITOR
from tests.live.sounds import FOLDER, WORDS, grammar, noise
from tests.pages.visitor import SAMPLES, Pace, Site, Visitor, serve, wait_until_free
from tests.ui.scripted import ScriptedEngine, capable, saying
from tests.waiting import wait_until

DEVICES = Path(__file__).with_name("devices.js")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    path = grammar(tmp_path_factory.mktemp("grammar"))
    return Parts(load_recogniser(f"pocketsphinx:{path}"), detector, "espeak-ng")


@pytest.fixture(scope="module")
def site(engine: LocalEngine, parts: Parts) -> Iterator[Site]:
    with serve(engine, live=parts) as site:
        yield site


class Speaker:
    """A person in front of the live view, with a camera and a microphone."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.sounds: list[int] = []  # bytes of what is to be played
        self.page.on("websocket", lambda line: line.on("framereceived", self._note))
        self.view = self.page.locator("#live-view")
        self.state, self.you, self.model, self.notice = (
            self.view.locator(f".live-{name}") for name in ("state", "you", "model", "notice")
        )
        self.talk = self.view.locator(".live-talk")

    def _note(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            self.sounds.append(len(frame))

    def opens(self, sample: str = "circle", **refuse: str) -> None:
        self.page.add_script_tag(content=DEVICES.read_text(encoding="utf-8"))
        self.page.evaluate("(names) => Object.assign(devices.refuse, names)", refuse)
        self.shows(sample)
        self.page.locator("#live-open").click()
        expect(self.state).to_have_text("Ready")
        if not refuse:
            expect(self.talk).to_be_focused()

    def shows(self, sample: str) -> None:
        content = base64.b64encode(SAMPLES[sample].picture.read_bytes()).decode()
        self.page.evaluate("(source) => devices.show(source)", f"data:image/png;base64,{content}")

    def says(self, name: str) -> None:
        self.plays((FOLDER / f"{name}.wav").read_bytes())

    def plays(self, wav: bytes) -> None:
        self.page.evaluate("(source) => devices.say(source)", base64.b64encode(wav).decode())

    def asks(self, name: str) -> None:
        self.talk.focus()
        self.page.keyboard.down("Space")
        self.says(name)
        self.page.keyboard.up("Space")

    def hears(self, *answers: str) -> None:
        for answer in answers:
            expect(self.model).to_contain_text(answer)
        expect(self.state).to_have_text("Ready")

    def types(self, text: str) -> None:
        self.view.locator(".live-type input").fill(text)
        self.page.keyboard.press("Enter")


@pytest.fixture
def come(visit: Callable[..., Visitor]) -> Callable[..., Speaker]:
    return lambda *where, **how: Speaker(visit(*where, **how))


def test_a_question_is_spoken_and_its_answer_heard(come: Callable[..., Speaker], site: Site, pace: Pace) -> None:
    speaker = come(site.address)
    speaker.opens()
    pace.allow()
    speaker.asks("what_color")
    expect(speaker.you).to_have_text(WORDS["what_color"])
    speaker.hears("The circle is red.")
    assert speaker.sounds, "the sentence was spoken"
    expect(speaker.view.locator(".live-figures")).to_contain_text("s to first word")
    expect(speaker.view.locator(".live-frame")).to_be_visible()
    # A follow-up about the same picture has no picture of its own; another one in front of the camera is seen.
    speaker.asks("what_shape")
    speaker.hears("circle")
    expect(speaker.page.locator("#chat .picture")).to_have_count(1)
    speaker.shows("corner")
    speaker.asks("what_color")
    speaker.hears("purple")
    expect(speaker.page.locator("#chat .user .picture")).to_have_count(2)
    # A long answer is interrupted by speaking: the model is free.
    pace.hold()
    speaker.asks("everything")
    expect(speaker.state).to_have_text("Thinking …")
    pace.allow(3)
    speaker.page.keyboard.down("Space")
    expect(speaker.state).to_have_text("Listening …")
    pace.allow()
    wait_until_free(site.engine)
    speaker.says("what_color")
    speaker.page.keyboard.up("Space")
    speaker.hears("purple")
    # It is the ordinary conversation: history, undo and export are there; a typed question goes the same way.
    speaker.types("Where is it?")
    expect(speaker.you).to_have_text("Where is it?")
    expect(speaker.page.locator("#chat .user")).to_contain_text(["Where is it?"])
    # Stop silences the sentence that is being spoken.
    expect(speaker.state).to_have_text("Speaking …")
    stopped = speaker.page.evaluate("devices.stopped")
    speaker.view.get_by_role("button", name="Stop").click()
    expect(speaker.state).to_have_text("Ready")
    assert speaker.page.evaluate("devices.stopped") > stopped


def test_hands_free_hears_questions_between_noise(come: Callable[..., Speaker], site: Site) -> None:
    speaker = come(site.address)
    speaker.opens()
    speaker.view.get_by_label("Hands-free").check()
    speaker.plays(as_wav(noise(1.5)))
    speaker.says("what_color")
    speaker.plays(as_wav(noise(1)))
    expect(speaker.you).to_have_text(WORDS["what_color"])
    speaker.hears("red")
    spoken = len(speaker.sounds)
    assert spoken
    speaker.view.get_by_label("Mute answers").check()
    speaker.says("what_shape")
    speaker.plays(as_wav(noise(1)))
    expect(speaker.you).to_have_text(WORDS["what_shape"])
    speaker.hears("circle")
    assert len(speaker.sounds) == spoken


def test_missing_devices_are_told_and_questions_typed(come: Callable[..., Speaker], site: Site) -> None:
    speaker = come(site.address)
    speaker.opens(camera="NotFoundError", microphone="NotAllowedError")
    expect(speaker.notice).to_contain_text("may not use the microphone")
    expect(speaker.talk).to_be_disabled()
    expect(speaker.view.get_by_label("Hands-free")).to_be_disabled()
    speaker.types("What shape is it?")
    expect(speaker.page.locator("#chat .user")).to_contain_text(["What shape is it?"])
    expect(speaker.page.locator("#chat .picture")).to_have_count(0)
    expect(speaker.state).to_have_text("Ready")
    speaker.view.get_by_role("button", name="Close").click()
    wait_until(lambda: site.page.live.count == 0)
    # Opened again with both; the camera is unplugged, and closing the view releases what is left.
    speaker.page.evaluate("() => Object.assign(devices.refuse, {camera: '', microphone: ''})")
    speaker.page.locator("#live-open").click()
    expect(speaker.view.locator(".live-lights span")).to_have_count(2)
    speaker.page.evaluate("() => devices.unplug('camera')")
    expect(speaker.notice).to_contain_text("camera was disconnected")
    expect(speaker.view.locator(".live-lights span")).to_have_text(["Microphone on"])
    speaker.view.get_by_role("button", name="Close").click()
    expect(speaker.view).to_be_hidden()
    states = "() => Object.values(devices.tracks).map((track) => track.readyState)"
    assert speaker.page.evaluate(states) == ["ended", "ended"]


def test_two_people_speak_at_once_and_one_leaves(come: Callable[..., Speaker], site: Site, pace: Pace) -> None:
    ann, ben = come(site.address), come(site.address)
    ann.opens("circle")
    ben.opens("corner")
    ann.asks("what_color")
    ben.asks("what_color")
    for speaker in (ann, ben):
        expect(speaker.you).to_have_text(WORDS["what_color"])
    pace.allow()
    ann.hears("red")
    ben.hears("purple")
    # A tab that is closed while its answer runs frees the model.
    pace.hold()
    ann.asks("everything")
    expect(ann.state).to_have_text("Thinking …")
    ann.page.close()
    pace.allow()
    wait_until(lambda: site.page.live.count == 1)
    wait_until_free(site.engine)
    ben.asks("what_color")
    ben.hears("purple")


def test_answers_come_from_descriptions(come: Callable[..., Speaker], engine: LocalEngine, parts: Parts) -> None:
    text = ScriptedEngine(saying("I was told that it is red."), card=capable())
    with serve(engine, live=replace(parts, text=text)) as site:
        speaker = come(site.address)
        speaker.opens()
        speaker.view.get_by_label("Answer from descriptions").check()
        (_, talk), *others = site.page.live._talks.values()
        wait_until(lambda: talk.described and talk.described.watcher.descriptions)
        speaker.asks("what_color")
        speaker.hears("I was told that it is red.")
        asked, _ = text.asked[0]
        seen = talk.described.watcher.descriptions[0][1]
        assert not others and asked.pictures == () and seen in (asked.system or "")
        expect(speaker.page.locator("#chat .picture")).to_have_count(0)
        assert not list(site.page.context.uploads.folder.rglob("*.jpg")), "no frame is kept"
        speaker.view.get_by_label("Answer from descriptions").uncheck()
        speaker.asks("what_color")
        speaker.hears("The circle is red.")


# --- who may connect --------------------------------------------------------------------------------------------------


def line(address: str, name: str = "a" * 20, **headers: str) -> ClientConnection:
    cookies = {"cookie": f"omnilmm_visitor={name}"} if name else {}
    return connect(f"{address.replace('http', 'ws', 1)}live", additional_headers={**cookies, **headers})


def test_strangers_get_no_line(parts: Parts) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(serve(ScriptedEngine(), live=parts))
        refused: list[dict[str, Any]] = [{"name": ""}, {"origin": "http://evil.example"}]
        for how in refused:
            with pytest.raises(InvalidStatus) as told:
                line(site.address, **how)
            assert told.value.response.status_code == 403
        lines = [stack.enter_context(line(site.address)) for _ in range(MOST_PER_VISITOR)]
        assert all('"ready"' in str(one.recv(30)) for one in lines)
        with line(site.address) as one_more, pytest.raises(ConnectionClosed):
            one_more.recv(30)
        stack.enter_context(line(site.address, "b" * 20)).recv(30)
        for wrong in ("{}", "x" * 1000, '{"type": "press", "on": 3}', bytes(5000)):
            with line(site.address, "c" * 20) as other:
                other.recv(30)
                other.send(wrong)
                with pytest.raises(ConnectionClosedError):
                    list(other)
    with serve(ScriptedEngine()) as silent, pytest.raises(InvalidStatus):
        line(silent.address)


def test_the_line_is_behind_the_login(come: Callable[..., Speaker], parts: Parts) -> None:
    loaded, loading = parts.recogniser, replace(parts, recogniser=None, is_loading=True)
    with serve(ScriptedEngine(), live=loading, login={"ann": "secret"}) as guarded:
        with pytest.raises(InvalidStatus) as told:
            line(guarded.address)
        assert told.value.response.status_code == 403
        speaker = come(guarded.address, login=("ann", "secret"))
        speaker.opens(microphone="")  # it opens, and is of no use yet
        expect(speaker.notice).to_contain_text("still being loaded")
        expect(speaker.talk).to_be_disabled()
        loading.recogniser, loading.is_loading = loaded, False
        expect(speaker.talk).to_be_enabled()
        expect(speaker.notice).to_be_empty()


def as_wav(samples: Any) -> bytes:
    import io
    import wave

    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return content.getvalue()
