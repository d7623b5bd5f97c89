"""The live view in Chromium: questions are spoken, answered aloud, interrupted; devices, strangers, two people.

One journey goes through Chromium's own fake camera and microphone. The others hold a key while something is said,
change what the camera shows, refuse or unplug a device, none of which Chromium's flags can do: `devices.js` does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import web_demo
from omnilmm.api.app import application
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.remote.servers import ServerProvider
from omnilmm.live.detection import detector
from omnilmm.live.recognition import load_recogniser
from omnilmm.live.talk import Parts
from omnilmm.ui.gradio_page.live import MOST_PER_VISITOR
from omnilmm.ui.startup import offer_of, provider_of
from tests.api.serving import served
from tests.browser import launch_arguments
from tests.live.sounds import FOLDER, WORDS, Samples, grammar, noise, silence, spoken
from tests.pages.fake_devices import arguments, write_wav, write_y4m
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

    def opens(self, sample: str = "circle", recognises: str = "", **refuse: str) -> None:
        self.page.add_script_tag(content=DEVICES.read_text(encoding="utf-8"))
        if recognises:
            self.page.evaluate("(where) => devices.recognises(where, 'what color is the circle')", recognises)
        self.page.evaluate("(names) => Object.assign(devices.refuse, names)", refuse)
        self.shows(sample)
        self.comes_back()
        if not refuse:
            expect(self.talk).to_be_focused()

    def comes_back(self) -> None:
        self.page.locator("#live-open").click()
        expect(self.state).to_have_text("Ready")

    def leaves(self) -> None:
        self.view.get_by_role("button", name="Close").click()
        expect(self.view).to_be_hidden()

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


@pytest.fixture
def before_a_server(engine: LocalEngine, tmp_path: Path) -> Iterator[Site]:
    """The page as `web_demo.py --live --engine-url …` makes it; the server is our own API."""
    with served(application(engine)) as api:
        given = ["--engine-url", f"{api}/v1", "--speech-model", f"pocketsphinx:{grammar(tmp_path)}"]
        flags = web_demo.parser().parse_args(["--live", "--voice", "espeak-ng", *given])
        provider = provider_of(flags, lambda done, total: None)
        provider.wait()
        with serve(provider, offer_of(flags, provider), web_demo.live_parts(flags, provider)) as site:
            yield site


def test_chromiums_own_devices_ask_a_model_on_a_server(browser: Browser, before_a_server: Site, tmp_path: Path) -> None:
    video = write_y4m(tmp_path / "circle.y4m", SAMPLES["circle"].picture)
    sound = write_wav(tmp_path / "asks.wav", np.concatenate([silence(3), spoken("what_color"), silence(12)]))
    how = launch_arguments()
    with browser.browser_type.launch(**how | {"args": [*how["args"], *arguments(video, sound)]}) as chromium:
        speaker = Speaker(Visitor.arrives(chromium.new_context(), before_a_server.address))
        speaker.comes_back()
        speaker.view.get_by_label("Hands-free").check()
        expect(speaker.view.locator(".live-lights span")).to_have_count(2)
        expect(speaker.you).to_have_text(WORDS["what_color"])
        expect(speaker.model).to_contain_text("The circle is red.")
        assert speaker.sounds, "the sentence was spoken"
        expect(speaker.page.locator("#chat .user .picture")).to_have_count(1)
        assert isinstance(before_a_server.engine, ServerProvider)
        tracks = "() => document.querySelector('#live-view video').srcObject.getTracks()"
        camera = speaker.page.evaluate_handle(f"({tracks})()")
        speaker.leaves()
        assert camera.evaluate("(tracks) => tracks.map((track) => track.readyState)") == ["ended"]
        assert not speaker.visitor.broken and not speaker.visitor.foreign


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
    # Stop silences the sentence that is being spoken, at once: while the click is handled, and so does the key.
    expect(speaker.state).to_have_text("Speaking …")
    speaker.view.get_by_role("button", name="Stop").click()
    expect(speaker.state).to_have_text("Ready")
    assert speaker.page.evaluate("devices.stoppedBy").count("click") == 1
    speaker.types("What shape is it?")
    expect(speaker.state).to_have_text("Speaking …")
    speaker.talk.focus()
    speaker.page.keyboard.down("Space")
    expect(speaker.state).to_have_text("Listening …")
    assert speaker.page.evaluate("devices.stoppedBy").count("keydown") == 1
    # The connection is lost meanwhile, which is told only until there is another one.
    speaker.page.evaluate("devices.socket.close()")
    expect(speaker.notice).to_have_text("The connection was lost; trying again …")
    speaker.page.keyboard.up("Space")
    expect(speaker.notice).to_be_empty()
    speaker.asks("what_shape")
    expect(speaker.you).to_have_text(WORDS["what_shape"])


def test_hands_free_hears_questions_between_noise(come: Callable[..., Speaker], site: Site, tmp_path: Path) -> None:
    speaker = come(site.address)
    speaker.opens()
    speaker.view.get_by_label("Hands-free").check()
    speaker.plays(as_wav(noise(1.5), tmp_path))
    speaker.says("what_color")
    speaker.plays(as_wav(noise(1), tmp_path))
    expect(speaker.you).to_have_text(WORDS["what_color"])
    speaker.hears("red")
    heard = len(speaker.sounds)
    assert heard
    speaker.view.get_by_label("Mute answers").check()
    speaker.says("what_shape")
    speaker.plays(as_wav(noise(1), tmp_path))
    expect(speaker.you).to_have_text(WORDS["what_shape"])
    speaker.hears("circle")
    assert len(speaker.sounds) == heard


def test_missing_devices_are_told_and_questions_typed(come: Callable[..., Speaker], site: Site) -> None:
    speaker = come(site.address)
    speaker.opens(camera="NotFoundError", microphone="NotAllowedError")
    for line in ("no camera here", "may not use the microphone"):
        expect(speaker.notice).to_contain_text(line)
    expect(speaker.talk).to_be_disabled()
    expect(speaker.view.get_by_label("Hands-free")).to_be_disabled()
    speaker.types("What shape is it?")
    expect(speaker.page.locator("#chat .user")).to_contain_text(["What shape is it?"])
    expect(speaker.page.locator("#chat .picture")).to_have_count(0)
    expect(speaker.state).to_have_text("Ready")
    speaker.leaves()
    wait_until(lambda: site.page.live.count == 0)
    # Closed while the browser still asks whether the camera may be used: nothing is opened afterwards.
    speaker.page.evaluate("""() => {
        Object.assign(devices.refuse, {camera: '', microphone: ''});
        devices.asked = [];
        devices.prompt = new Promise((done) => { devices.answer = done; });
    }""")
    speaker.comes_back()
    speaker.leaves()
    speaker.page.evaluate("() => { devices.answer(); devices.prompt = null; }")
    # Opened again with both, and another camera chosen.
    speaker.comes_back()
    expect(speaker.view.locator(".live-lights span")).to_have_count(2)
    assert speaker.page.evaluate("devices.asked") == ["camera", "camera", "microphone"]
    first = speaker.page.evaluate_handle("devices.tracks.camera")
    speaker.view.get_by_label("Camera").select_option("Front")
    wait_until(lambda: speaker.page.evaluate("devices.asked").pop() == "front")
    assert first.evaluate("(track) => track.readyState") == "ended"
    expect(speaker.view.locator(".live-lights span")).to_have_count(2)
    # The camera is unplugged, and closing the view releases what is left.
    speaker.page.evaluate("() => devices.unplug('camera')")
    expect(speaker.notice).to_contain_text("camera was disconnected")
    expect(speaker.view.locator(".live-lights span")).to_have_text(["Microphone on"])
    speaker.talk.focus()
    speaker.page.keyboard.down("Space")
    expect(speaker.state).to_have_text("Listening …")
    speaker.page.evaluate("() => devices.unplug('microphone')")
    expect(speaker.state).to_have_text("Ready")
    expect(speaker.notice).to_contain_text("microphone was disconnected")
    expect(speaker.talk).to_be_disabled()
    speaker.leaves()
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
    # A tab that is closed while its answer is spoken and goes on frees the model.
    pace.hold()
    ann.asks("everything")
    while ann.state.inner_text() != "Speaking …":
        pace.allow(1)
        ann.page.wait_for_timeout(50)
    ann.page.close()
    assert pace.was_closed()
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


def test_the_browsers_own_recognition_is_used_once_allowed(come: Callable[..., Speaker], engine: LocalEngine) -> None:
    with serve(engine, live=Parts(None, lambda: None, "none", browser_hears=True)) as site:
        speaker = come(site.address)
        speaker.opens(microphone="")
        consent = speaker.view.locator(".live-consent")
        expect(consent).to_contain_text("may send your voice to the company")
        expect(speaker.talk).to_be_disabled()
        assert speaker.page.evaluate("devices.asked") == ["camera"]
        # Chromium's own has no service here.
        consent.get_by_role("button", name="Allow").click()
        expect(consent).to_be_hidden()
        speaker.talk.focus()
        speaker.page.keyboard.down("Space")
        expect(speaker.notice).to_contain_text("The browser's speech recognition failed (")
        speaker.page.keyboard.up("Space")
        speaker.types("What color is the circle?")
        speaker.hears("The circle is red.")
        # A browser that can do it on the device, after a download, and without asking from then on.
        speaker = come(site.address)
        speaker.opens(recognises="downloadable", microphone="")
        consent = speaker.view.locator(".live-consent")
        consent.get_by_role("button", name="Download").click()
        expect(speaker.notice).to_have_text("This browser recognises speech on this device.")
        expect(consent).to_be_hidden()
        speaker.talk.focus()
        speaker.page.keyboard.down("Space")
        expect(speaker.view.locator(".live-lights span")).to_have_text(["Camera on", "Microphone on"])
        speaker.page.keyboard.up("Space")
        expect(speaker.you).to_have_text("what color is the circle")
        speaker.hears("The circle is red.")
        assert speaker.page.evaluate("devices.local") == [True]


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


def as_wav(samples: Samples, folder: Path) -> bytes:
    return write_wav(folder / "said.wav", samples).read_bytes()
