"""The live view in Chromium: questions are spoken, answered aloud, interrupted; devices, strangers, two people.

One journey goes through Chromium's own fake camera and microphone. The others hold a key while something is said,
change what the camera shows, refuse or unplug a device, none of which Chromium's flags can do: `devices.js` does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.servers import ServerProvider
from omnilmm.live.detection import detector
from omnilmm.live.recognition import load_recogniser
from omnilmm.live.talk import Parts
from omnilmm.ui.gradio_page.live import MOST_PER_VISITOR
from omnilmm.ui.startup import offer_of, provider_of
from omnilmm.ui.texts import ENGLISH
from tests.api.serving import served
from tests.browser import launch_arguments
from tests.live.sounds import WORDS, Samples, grammar, noise, silence, spoken
from tests.pages.fake_devices import arguments, wav, write_wav, write_y4m
from tests.pages.looks import serious
from tests.pages.visitor import SAMPLES, Pace, Site, Visitor, serve, wait_until_free
from tests.ui.scripted import ScriptedEngine, capable, saying
from tests.waiting import PATIENCE_S, wait_until

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
    """A person in front of the live view, with a camera and a microphone.

    Attributes:
        said: the sentences that came to be shown and spoken; `bytes` is the size of the sound.
        understood: of each question that was spoken, whether words were recognised.
    """

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.said: list[dict[str, Any]] = []
        self.understood: list[bool] = []
        self.page.on("websocket", lambda line: line.on("framereceived", self._note))
        self.view = self.page.locator("#live-view")
        self.state, self.you, self.model, self.notice = (
            self.view.locator(f".live-{name}") for name in ("state", "you", "model", "notice")
        )
        self.talk = self.view.locator(".live-talk")
        self.lights = self.view.locator(".live-lights span")

    def _note(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            self.said[-1]["bytes"] = len(frame)
        elif (message := json.loads(frame))["type"] == "say":
            self.said.append(message)
        elif message["type"] in ("heard", "nothing_heard"):
            self.understood.append(message["type"] == "heard")

    def opens(self, sample: str = "circle", recognises: str = "", **refuse: str) -> None:
        self.page.add_script_tag(content=DEVICES.read_text(encoding="utf-8"))
        if recognises:
            self.page.evaluate("(where) => devices.recognises(where, 'what color is the circle')", recognises)
        self.meets(**refuse)
        self.comes_back()
        if not refuse:
            expect(self.talk).to_be_focused()
        if "camera" not in refuse:
            expect(self.lights.first).to_have_text("Camera on")
        self.shows(sample)  # a question may begin now: the page has a picture to look at

    def meets(self, **refuse: str) -> None:
        """The names of the errors with which the browser refuses its devices."""
        self.page.evaluate("(names) => { devices.refuse = names; }", refuse)

    def comes_back(self) -> None:
        self.page.locator("#live-open").click()
        expect(self.state).to_have_text("Ready")

    def leaves(self) -> None:
        self.view.get_by_role("button", name="Close").click()
        expect(self.view).to_be_hidden()

    def shows(self, sample: str) -> None:
        content = base64.b64encode(SAMPLES[sample].picture.read_bytes()).decode()
        self.page.evaluate("(source) => devices.show(source)", f"data:image/png;base64,{content}")

    def says(self, *samples: Samples) -> None:
        """Sounds in front of the microphone; returns when they are over."""
        content = base64.b64encode(wav(np.concatenate(samples))).decode()
        self.page.evaluate("(source) => devices.say(source)", content)

    @contextmanager
    def holding(self, by: str = "key") -> Iterator[None]:
        """The talk key, or the button by the mouse or a finger."""
        with self._held(by):
            expect(self.state).to_have_text("Listening …")
            yield

    @contextmanager
    def _held(self, by: str) -> Iterator[None]:
        expect(self.talk).to_be_enabled()
        if by == "key":
            self.talk.focus()
            self.page.keyboard.down("Space")
            yield
            self.page.keyboard.up("Space")
        elif by == "mouse":
            self.talk.hover()
            self.page.mouse.down()
            yield
            self.page.mouse.up()
        else:
            box, hand = self.talk.bounding_box(), self.page.context.new_cdp_session(self.page)
            assert box
            at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
            hand.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
            yield
            hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def asks(self, name: str, by: str = "key") -> None:
        """Ask aloud; again, as anybody would, where a machine too slow for sound in real time left gaps in it."""
        self.understood.clear()
        while not any(self.understood):
            assert len(self.understood) < 3, "it does not hear well"
            asked = len(self.understood)
            with self.holding(by):
                self.says(spoken(name))
            self.visitor.until(lambda asked=asked: len(self.understood) > asked)

    def hears(self, answer: str, *, aloud: bool = True) -> None:
        """The whole answer is shown, and spoken or not."""
        expect(self.model).to_contain_text(answer)
        expect(self.state).to_have_text("Ready")
        size = "bytes" if aloud else "text"
        self.visitor.until(lambda: any(answer in one["text"] and one.get(size) for one in self.said))
        assert all(one["sound"] == aloud for one in self.said)
        self.said.clear()

    def types(self, text: str) -> None:
        self.view.locator(".live-type input").fill(text)
        self.page.keyboard.press("Enter")

    def is_spoken_to(self) -> None:
        """The next answer is spoken without end: what ends it is what the test does."""
        self.page.evaluate("() => Object.assign(devices, {isEndless: true, playing: [], stoppedBy: []})")
        self.types("What shape is it?")
        self.page.wait_for_function("devices.playing.length")
        expect(self.state).to_have_text("Speaking …")
        self.page.evaluate("() => { devices.isEndless = false; }")

    @property
    def silenced_by(self) -> list[str]:
        """The events that ended the sound of answers, while they were handled."""
        return list(self.page.evaluate("devices.stoppedBy"))

    @property
    def tracks(self) -> list[str]:
        """The states of the camera and the microphone."""
        return list(self.page.evaluate("Object.values(devices.tracks).map((track) => track.readyState)"))


@pytest.fixture
def come(visit: Callable[..., Visitor]) -> Callable[..., Speaker]:
    return lambda *where, **how: Speaker(visit(*where, **how))


@contextmanager
def started(provider: ModelProvider | None, folder: Path, *flags: str, **how: Any) -> Iterator[Site]:
    """The page as `web_demo.py --live` makes it."""
    own = ("--live", "--voice", "espeak-ng", "--speech-model", f"pocketsphinx:{grammar(folder)}")
    given = web_demo.parser().parse_args([*own, *flags])
    provider = provider or provider_of(given, lambda done, total: None)
    provider.wait()
    with serve(provider, offer_of(given, provider), web_demo.live_parts(given, provider), **how) as site:
        yield site


def test_chromiums_own_devices_ask_a_model_on_a_server(browser: Browser, engine: LocalEngine, tmp_path: Path) -> None:
    video = write_y4m(tmp_path / "circle.y4m", SAMPLES["circle"].picture)
    heard = np.concatenate([noise(2), silence(1), spoken("what_color"), noise(1), silence(12)])
    how = launch_arguments()
    devices = arguments(video, write_wav(tmp_path / "asks.wav", heard))
    how["args"] = [*how["args"], *devices, "--host-resolver-rules=MAP far.example 127.0.0.1", "--no-proxy-server"]
    with ExitStack() as stack:
        api = stack.enter_context(served(application(engine)))
        flags = ("--engine-url", f"{api}/v1")
        site = stack.enter_context(started(None, tmp_path, *flags, allowed_hosts=["far.example"]))
        chromium = stack.enter_context(browser.browser_type.launch(**how))
        speaker = Speaker(Visitor.arrives(chromium.new_context(), site.address))
        speaker.comes_back()
        speaker.view.get_by_label("Hands-free").check()
        expect(speaker.lights).to_have_text(["Camera on", "Microphone on"])
        expect(speaker.you).to_have_text(WORDS["what_color"])
        speaker.hears("The circle is red.")
        expect(speaker.page.locator("#chat .user .picture")).to_have_count(1)
        assert isinstance(site.engine, ServerProvider)
        camera = speaker.page.evaluate_handle("document.querySelector('#live-view video').srcObject.getTracks()")
        speaker.leaves()
        assert camera.evaluate("(tracks) => tracks.map((track) => track.readyState)") == ["ended"]
        # On another machine and without HTTPS the browser gives no devices; the view says why, and questions are typed.
        far = Speaker(Visitor.arrives(chromium.new_context(), site.address.replace("127.0.0.1", "far.example")))
        far.comes_back()
        expect(far.notice).to_contain_text("or over HTTPS")
        expect(far.talk).to_be_disabled()
        far.types("What shape is it?")
        expect(far.page.locator("#chat .user")).to_contain_text(["What shape is it?"])
        for visitor in (speaker.visitor, far.visitor):
            assert not visitor.broken and not visitor.foreign


def test_a_question_is_spoken_and_its_answer_heard(
    come: Callable[..., Speaker], site: Site, pace: Pace, tmp_path: Path
) -> None:
    speaker = come(site.address)
    speaker.opens()
    pace.allow()
    speaker.asks("what_color")
    expect(speaker.you).to_have_text(WORDS["what_color"])
    speaker.hears("The circle is red.")
    figures = speaker.view.locator(".live-figures")
    expect(figures).to_have_text(re.compile(r"^\d+\.\d s speech → text · \d+\.\d s to first word$"))
    expect(speaker.view.locator(".live-frame")).to_be_visible()
    # A follow-up about the same picture has no picture of its own; another one in front of the camera is seen.
    speaker.asks("what_shape")
    speaker.hears("circle")
    expect(speaker.page.locator("#chat .picture")).to_have_count(1)
    expect(speaker.page.locator("#chat .note").last).to_contain_text("reused")
    speaker.shows("corner")
    speaker.asks("what_color")
    speaker.hears("purple")
    expect(speaker.page.locator("#chat .user .picture")).to_have_count(2)
    # A long answer is interrupted by speaking: the model is free within one token.
    pace.hold()
    speaker.asks("everything")
    expect(speaker.you).to_have_text(WORDS["everything"])
    begun = pace.passes + 3
    pace.allow(3)
    speaker.visitor.until(lambda: pace.passes == begun)
    with speaker.holding():
        assert pace.was_closed()
        pace.allow()
        wait_until_free(site.engine)
        assert pace.passes <= begun + 1
        speaker.says(spoken("what_color"))
    expect(speaker.you).to_have_text(WORDS["what_color"])
    speaker.hears("purple")
    # It is the ordinary conversation: a typed question goes the same way, boxes are drawn, and all of it is exported.
    speaker.view.get_by_label("Mute answers").check()
    speaker.types("Mark the star with a box.")
    expect(speaker.page.locator(f"#chat .bot img[alt='{ENGLISH.boxes_on_picture}']")).to_have_count(1)
    speaker.hears("", aloud=False)
    speaker.view.get_by_label("Mute answers").uncheck()
    speaker.visitor.export(tmp_path / "chat.json")
    exported = (tmp_path / "chat.json").read_text(encoding="utf-8")
    assert all(text in exported for text in (WORDS["what_color"], WORDS["what_shape"], "with a box"))
    # Stop silences the sentence that is being spoken, at once: while the click is handled, and so does the key.
    speaker.is_spoken_to()
    speaker.view.get_by_role("button", name="Stop").click()
    expect(speaker.state).to_have_text("Ready")
    assert speaker.silenced_by == ["click"]
    speaker.is_spoken_to()
    with speaker.holding():
        assert speaker.silenced_by == ["keydown"]
        # The connection is lost meanwhile, which is told until there is another one.
        speaker.page.evaluate("() => { devices.isCut = true; devices.socket.close(); }")
        expect(speaker.notice).to_have_text("The connection was lost; trying again …")
    speaker.page.evaluate("() => { devices.isCut = false; }")
    expect(speaker.notice).to_be_empty()
    # A connection that does not keep up gets no more sound, and what waits does not grow.
    speaker.page.evaluate("Object.defineProperty(devices.socket, 'bufferedAmount', {value: 400_000})")
    speaker.page.evaluate("() => { devices.chunks = 0; }")
    with speaker.holding():
        speaker.says(silence(0.3))
    expect(speaker.notice).to_contain_text("No words were recognised")
    expect(speaker.notice).to_contain_text("too slow for your voice")
    assert speaker.page.evaluate("devices.chunks") == 0


def test_a_voice_ends_the_answer_hands_free_and_noise_does_not(come: Callable[..., Speaker], site: Site) -> None:
    speaker = come(site.address)
    speaker.opens()
    speaker.view.get_by_label("Hands-free").check()
    speaker.is_spoken_to()
    speaker.says(noise(1))
    expect(speaker.state).to_have_text("Speaking …")
    assert speaker.silenced_by == []
    speaker.said.clear()
    speaker.says(spoken("what_color"), noise(1))
    expect(speaker.you).to_have_text(WORDS["what_color"])
    assert speaker.silenced_by[:1] == ["message"]
    speaker.hears("red")


def test_missing_devices_are_reported_and_questions_typed(come: Callable[..., Speaker], site: Site) -> None:
    speaker = come(site.address)
    speaker.opens(camera="NotAllowedError", microphone="NotAllowedError")
    for line in ("may not use the camera", "may not use the microphone"):
        expect(speaker.notice).to_contain_text(line)
    speaker.leaves()
    speaker.meets(camera="NotFoundError", microphone="NotFoundError")
    speaker.comes_back()
    for line in ("no camera here", "no microphone here"):
        expect(speaker.notice).to_contain_text(line)
    expect(speaker.talk).to_be_disabled()
    expect(speaker.view.get_by_label("Hands-free")).to_be_disabled()
    speaker.types("What shape is it?")
    expect(speaker.page.locator("#chat .user")).to_contain_text(["What shape is it?"])
    expect(speaker.page.locator("#chat .picture")).to_have_count(0)
    speaker.leaves()
    wait_until(lambda: site.page.live.count == 0)
    # Closed while the browser still asks whether the camera may be used: it is closed once it is given.
    speaker.meets()
    speaker.page.evaluate("""() => {
        devices.asked = [];
        devices.prompt = new Promise((done) => { devices.answer = done; });
    }""")
    speaker.comes_back()
    speaker.leaves()
    speaker.page.evaluate("() => { devices.answer(); devices.prompt = null; }")
    speaker.page.wait_for_function("devices.tracks.camera?.readyState === 'ended'")
    # Opened again with both, and another camera chosen.
    speaker.comes_back()
    expect(speaker.lights).to_have_count(2)
    assert speaker.page.evaluate("devices.asked") == ["camera", "camera", "microphone"]
    first = speaker.page.evaluate_handle("devices.tracks.camera")
    camera = speaker.view.get_by_label("Camera")
    expect(camera).to_have_value("back")
    camera.select_option("Front")
    speaker.page.wait_for_function("devices.asked.at(-1) === 'front'")
    assert first.evaluate("(track) => track.readyState") == "ended"
    expect(speaker.lights).to_have_count(2)
    expect(camera).to_have_value("front")
    # The camera is unplugged, and closing the view releases what is left.
    speaker.page.evaluate("() => devices.unplug('camera')")
    expect(speaker.notice).to_contain_text("camera was disconnected")
    expect(speaker.lights).to_have_text(["Microphone on"])
    speaker.leaves()
    assert speaker.tracks == ["ended", "ended"]
    # So does another language, which draws the view anew; and the microphone is unplugged while somebody speaks.
    speaker.comes_back()
    expect(speaker.lights).to_have_count(2)
    with speaker.holding():
        speaker.page.evaluate("() => devices.unplug('microphone')")
        expect(speaker.state).to_have_text("Ready")
    expect(speaker.notice).to_contain_text("microphone was disconnected")
    expect(speaker.talk).to_be_disabled()
    speaker.page.locator("#language").get_by_text("中文").click()
    expect(speaker.view).to_be_hidden()
    assert speaker.tracks == ["ended", "ended"]


def going_on(*_: Any) -> Iterator[Event]:
    """A sentence, and another one without end."""
    yield TextDelta("It is a circle. It")
    while True:
        time.sleep(0.05)
        yield TextDelta(" is")


def test_two_people_speak_at_once_and_one_leaves(
    come: Callable[..., Speaker], site: Site, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = come(site.address)
    ben = come(site.address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    ann.opens("circle", rate="NotSupportedError")  # as in Firefox
    ben.opens("corner")

    def no_thumb_hits_both() -> bool:
        stop, close = (ben.view.get_by_role("button", name=name).bounding_box() for name in ("Stop", "Close"))
        is_large = stop is not None and close is not None and min(stop["height"], close["height"]) >= 44
        return is_large and stop["y"] >= close["y"] + 3 * close["height"]

    ben.visitor.until(no_thumb_hits_both)
    assert serious(ben.page) == []
    ann.asks("what_color", "mouse")
    ben.asks("what_color", "finger")
    for speaker in (ann, ben):
        expect(speaker.you).to_have_text(WORDS["what_color"])
    pace.allow()
    ann.hears("red")
    ben.hears("purple")
    # A tab that is closed while its answer is spoken and goes on frees the model.
    ann.page.evaluate("() => { devices.isEndless = true; }")
    with monkeypatch.context() as patched:
        patched.setattr(pace, "_stream", going_on)
        ann.asks("everything")
        expect(ann.state).to_have_text("Speaking …")
        ann.page.close()
        assert pace.was_closed()
    wait_until(lambda: site.page.live.count == 1)
    wait_until_free(site.engine)
    ben.asks("what_color")
    ben.hears("purple")


def test_answers_come_from_descriptions(come: Callable[..., Speaker], engine: LocalEngine, tmp_path: Path) -> None:
    text = ScriptedEngine(saying("I was told that it is red."), card=capable(name="text"))
    with ExitStack() as stack:
        api = stack.enter_context(served(application(text)))
        site = stack.enter_context(started(ModelProvider.holding(engine), tmp_path, "--text-url", f"{api}/v1"))
        speaker = come(site.address)
        speaker.opens()
        speaker.view.get_by_label("Answer from descriptions").check()
        began_s = time.monotonic()
        (_, talk), *others = site.page.live._talks.values()
        found = lambda: talk.described.watcher.descriptions if talk.described else []  # noqa: E731
        wait_until(found)
        speaker.asks("what_color")
        speaker.hears("I was told that it is red.")
        asked, _ = text.asked[0]
        assert not others and asked.pictures == () and found()[0][1] in (asked.system or "")
        expect(speaker.page.locator("#chat .picture")).to_have_count(0)
        folder = site.page.context.uploads.folder
        jpegs = lambda: [name for *_, files in os.walk(folder) for name in files if name.endswith(".jpg")]  # noqa: E731
        wait_until(lambda: not jpegs())  # no frame is kept
        # What shows nothing new is not described again.
        speaker.page.wait_for_timeout(max(0.0, 1000 * (2.5 - (time.monotonic() - began_s))))
        assert len(found()) == 1
        speaker.shows("corner")
        wait_until(lambda: len(found()) == 2)
        speaker.view.get_by_label("Answer from descriptions").uncheck()
        speaker.asks("what_color")
        speaker.hears("purple")


def test_the_browsers_own_recognition_is_used_once_allowed(come: Callable[..., Speaker], engine: LocalEngine) -> None:
    with serve(engine, live=Parts(None, lambda: None, "browser", browser_hears=True)) as site:
        speaker = come(site.address)
        # One that can do it on the device, after a download, and without asking from then on.
        speaker.opens(recognises="downloadable", microphone="")
        consent = speaker.view.locator(".live-consent")
        expect(consent).to_contain_text("may send your voice to the company")
        expect(speaker.talk).to_be_disabled()
        assert speaker.page.evaluate("devices.asked") == ["camera"]
        consent.get_by_role("button", name="Download").click()
        expect(speaker.notice).to_have_text("This browser recognises speech on this device.")
        expect(consent).to_be_hidden()
        with speaker.holding():
            expect(speaker.lights).to_have_text(["Camera on", "Microphone on"])
        expect(speaker.you).to_have_text("what color is the circle")
        speaker.hears("The circle is red.", aloud=False)
        assert speaker.page.evaluate("devices.local") == [True]
        # Chromium's own, which has no service here.
        speaker.leaves()
        speaker.page.evaluate("() => { delete window.SpeechRecognition; }")
        speaker.comes_back()
        expect(consent).to_contain_text("may send your voice to the company")
        expect(speaker.talk).to_be_disabled()
        speaker.shows("circle")
        consent.get_by_role("button", name="Allow").click()
        expect(consent).to_be_hidden()
        speaker.talk.focus()
        speaker.page.keyboard.down("Space")
        expect(speaker.notice).to_contain_text("The browser's speech recognition failed (")
        speaker.page.keyboard.up("Space")
        # Nor has it a voice.
        speaker.types("What color is the circle?")
        expect(speaker.notice).to_contain_text("no voice here that works offline")
        speaker.hears("The circle is red.", aloud=False)


# --- who may connect --------------------------------------------------------------------------------------------------


def line(address: str, name: str = "a" * 20, **headers: str) -> ClientConnection:
    cookies = {"cookie": f"omnilmm_visitor={name}"} if name else {}
    there = f"{address.replace('http', 'ws', 1)}live"
    return connect(there, additional_headers={**cookies, **headers}, open_timeout=PATIENCE_S)


def test_strangers_get_no_line(parts: Parts) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(serve(ScriptedEngine(), live=replace(parts, new_detector=lambda: None)))
        refused: list[dict[str, Any]] = [{"name": ""}, {"origin": "http://evil.example"}]
        for how in refused:
            with pytest.raises(InvalidStatus) as raised:
                line(site.address, **how)
            assert raised.value.response.status_code == 403
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
        with pytest.raises(InvalidStatus) as raised:
            line(guarded.address)
        assert raised.value.response.status_code == 403
        speaker = come(guarded.address, login=("ann", "secret"))
        speaker.opens(microphone="")  # it opens, and is of no use yet
        expect(speaker.notice).to_contain_text("still being loaded")
        expect(speaker.talk).to_be_disabled()
        loading.recogniser, loading.is_loading = loaded, False
        expect(speaker.talk).to_be_enabled()
        expect(speaker.notice).to_be_empty()
        # One that cannot be loaded: the view is for typing, and asks for no microphone.
        speaker.leaves()
        loading.recogniser = None
        speaker.page.evaluate("() => { devices.asked = []; }")
        speaker.comes_back()
        expect(speaker.notice).to_have_text(
            "No speech recognition is running here (--speech-model): type your questions."
        )
        assert speaker.page.evaluate("devices.asked") == ["camera"]
