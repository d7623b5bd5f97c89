"""Questions spoken to the live view through Chromium's fake camera and microphone, for `benchmarks/live.py`."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from omnilmm.engine.events import Event, Finished, TextDelta
from omnilmm.engine.loading import load_engine
from omnilmm.live.detection import detector
from omnilmm.live.hearing import Detector, Sound
from omnilmm.live.recognition import Recogniser
from omnilmm.live.speech import Sentences
from omnilmm.live.talk import Parts
from omnilmm.ui.samples import samples
from tests.browser import launch_arguments
from tests.live.sounds import silence, spoken
from tests.pages.fake_devices import arguments, write_wav, write_y4m
from tests.pages.visitor import Visitor, serve

LOUD = 1000  # a sample of a voice, of 32768
NOTES = """
    window.came = [];
    const note = (name) => came.push([name, performance.timeOrigin + performance.now()]);
    const Real = WebSocket, { start } = AudioBufferSourceNode.prototype;
    const read = ({ data }) => {
      if (typeof data !== "string") return;
      const { state, type } = JSON.parse(data);
      note(state ?? type);
    };
    window.WebSocket = class extends Real {
      constructor(to) { super(to); this.addEventListener("message", read); }
      send(data) {
        if (typeof data !== "string" && new Int16Array(data).some((sample) => Math.abs(sample) > LOUD)) note("voice");
        super.send(data);
      }
    };
    AudioBufferSourceNode.prototype.start = function (...how) { note("sound"); return start.apply(this, how); };
""".replace("LOUD", str(LOUD))  # when sound with a voice left, when each message came, when an answer's sound began


class ByBrowser:
    """Questions that are spoken into Chromium's fake microphone, again and again.

    Attributes:
        notes: when each thing happened, in milliseconds since 1970: in the page, and in the model.
        per_chunk: milliseconds that the detector took for each chunk.
    """

    def __init__(self, recogniser: Recogniser | None) -> None:
        self._engine, self._recogniser = load_engine(), recogniser
        self._stream = self._engine.stream
        self._engine.stream = self._watched  # type: ignore[method-assign]
        self.notes: list[tuple[str, float]] = []
        self.per_chunk: list[float] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Open the page and its live view, and switch it to hands-free."""
        with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
            folder, how = Path(name), launch_arguments()
            video = write_y4m(folder / "seen.y4m", samples()[0].picture)
            sound = write_wav(folder / "said.wav", np.concatenate([silence(1), spoken("what_color"), silence(5)]))
            chromium = playwright.chromium.launch(**how | {"args": [*how["args"], *arguments(video, sound)]})
            parts = Parts(self._recogniser, self._detector, "espeak-ng")
            with chromium, serve(self._engine, live=parts) as self._site:
                context = chromium.new_context()
                context.add_init_script(NOTES)
                self._page = Visitor.arrives(context, self._site.address).page
                self._page.locator("#live-open").click()
                self._page.get_by_label("Hands-free").check()
                yield

    def listen(self, seconds: float) -> None:
        """Let it go on."""
        self._page.wait_for_timeout(1000 * seconds)
        self.notes += [(name, at) for name, at in self._page.evaluate("came.splice(0)")]

    def begin_anew(self) -> None:
        """Begin a new chat: the caches of a chat grow with it, which is not what is measured."""
        self._page.locator("#clear").click()

    @property
    def turns(self) -> list[dict[str, float]]:
        """When each thing happened first, for every question that was answered aloud."""
        turns: list[dict[str, float]] = []
        for name, at in sorted(self.notes, key=itemgetter(1)):
            if name == "listening":
                turns.append({})
            if turns and name == "voice" and "thinking" not in turns[-1]:
                turns[-1][name] = at  # the last one
            elif turns:
                turns[-1].setdefault(name, at)
        return [turn for turn in turns if {"sentence", "sound"} <= turn.keys()]

    @property
    def parts(self) -> dict[str, list[float]]:
        """The milliseconds of each part."""
        between = {
            "end of speech": ("voice", "thinking"),
            "speech to text": ("thinking", "heard"),
            "text to first word": ("heard", "first_word"),
            "first sound after the first sentence": ("sentence", "sound"),
            "end of speech to first sound": ("voice", "sound"),
        }
        found = {name: [turn[to] - turn[of] for turn in self.turns] for name, (of, to) in between.items()}
        return {"detector, per chunk": self.per_chunk, **found}

    @property
    def memory(self) -> str:
        """How much memory this process and the browser take, and how many threads there are."""
        server = psutil.Process()
        browser = sum(each.memory_info().rss for each in server.children(recursive=True) if "chrom" in each.name())
        heap = self._page.evaluate("performance.memory.usedJSHeapSize") / 2**20
        sizes = f"server {server.memory_info().rss / 2**20:.0f} MiB, browser {browser / 2**20:.0f} MiB"
        return f"{sizes} (scripts {heap:.0f}), {threading.active_count()} threads"

    @property
    def waiting(self) -> tuple[int, int]:
        """How many chunks of sound wait now, and how many were dropped."""
        inboxes = [talk._inbox for _, talk in self._site.page.live._talks.values() if talk]
        return sum(one.chunks for one in inboxes), sum(one.dropped for one in inboxes)

    def _detector(self) -> Detector | None:
        found = detector()
        assert found, "pip install silero-vad"

        def timed(sound: Sound) -> float:
            began = time.perf_counter()
            probability = found(sound)
            self.per_chunk.append(1000 * (time.perf_counter() - began))
            return probability

        return timed

    def _watched(self, *given: Any) -> Generator[Event]:
        text, sentences = "", Sentences()
        with closing(self._stream(*given)) as events:
            for event in events:
                text += event.text if isinstance(event, TextDelta) else ""
                if list(sentences.of(text, is_complete=isinstance(event, Finished))):
                    self.notes.append(("sentence", 1000 * time.time()))
                yield event
