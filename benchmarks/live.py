"""Benchmark the live view's latency, part by part: `make bench-live`; `--minutes 10` also measures its memory.

Questions spoken by a synthetic voice are given in real time, as a microphone does, to a hands-free conversation with
the built-in model: no browser, no network. With `--browser` they go through Chromium's fake camera and microphone and
the page, as its script sees it. Needs `pip install pocketsphinx` and espeak-ng.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from benchmarks.__main__ import machine
from omnilmm.conversation import Conversation
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.images.pixels import open_picture
from omnilmm.live.detection import detector
from omnilmm.live.hearing import CHUNK, RATE
from omnilmm.live.recognition import Recogniser, load_recogniser
from omnilmm.live.talk import Answer, Command, Parts, Talk
from omnilmm.ui.samples import samples
from tests.browser import launch_arguments
from tests.live.sounds import chunks, grammar, silence, spoken
from tests.pages.fake_devices import arguments, write_wav, write_y4m
from tests.pages.visitor import Visitor, serve

QUESTIONS = 9
GOALS = {"end of speech": "≤ 500", "first sound after the first sentence": "≤ 300", "detector, per chunk": "≤ 10"}


NOTES = """
    window.came = [];
    const note = (name) => came.push([name, performance.now()]);
    const Real = WebSocket, { start } = AudioBufferSourceNode.prototype;
    const read = ({ data }) => {
      if (typeof data !== "string") return;
      const { state, type } = JSON.parse(data);
      note(state ?? type);
    };
    window.WebSocket = class extends Real { constructor(to) { super(to); this.addEventListener("message", read); } };
    AudioBufferSourceNode.prototype.start = function (...how) { note("sound"); return start.apply(this, how); };
"""  # when each message came, and when the sound of an answer began


class Timed:
    """The far end of a talk: asks the engine what is heard, and notes when each message came."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine, self.picture = engine, open_picture(samples()[0].picture)
        self.talk: Talk | None = None
        self.came: dict[str, float] = {}
        self.spoken = threading.Event()

    def send(self, message: dict[str, Any] | bytes) -> None:
        """Take a message of the talk."""
        kind = "sound" if isinstance(message, bytes) else message.get("state") or message["type"]
        self.came.setdefault(kind, time.monotonic())
        if kind == "heard" and isinstance(message, dict):
            threading.Thread(target=self._answer, args=(message["text"],), daemon=True).start()
        if kind == "sound":
            self.spoken.set()

    def _answer(self, question: str) -> None:
        assert self.talk
        text, done = [""], threading.Event()
        self.talk.speak(Answer(lambda: text[0], done, done.set))
        for event in self.engine.stream(Conversation().with_message("user", self.picture, question), owner="benchmark"):
            text[0] += getattr(event, "text", "") if type(event).__name__ == "TextDelta" else ""
            if text[0] and "word" not in self.came:
                self.came["word"] = time.monotonic()
        self.came["complete"] = time.monotonic()
        done.set()


def one_question(talk: Talk, timed: Timed) -> dict[str, float]:
    """Speak a question in real time and return the milliseconds of each part."""
    question = spoken("what_color")
    voiced = np.flatnonzero(np.abs(question) > 1000)
    timed.came.clear()
    timed.spoken.clear()
    began = time.monotonic()
    for number, chunk in enumerate(chunks(question, silence(1.5))):
        time.sleep(max(0.0, began + number * CHUNK / RATE - time.monotonic()))
        talk.receive_sound(chunk)
    ended = began + float(voiced[-1]) / RATE
    assert timed.spoken.wait(60), "nothing was spoken"
    talk.receive(Command(type="silent"))
    came = timed.came
    return {
        "end of speech": 1000 * (came["thinking"] - ended),
        "speech to text": 1000 * (came["heard"] - came["thinking"]),
        "text to first word": 1000 * (came["word"] - came["heard"]),
        "first sound after the first sentence": 1000 * (came["sound"] - came["complete"]),
        "end of speech to first sound": 1000 * (came["sound"] - ended),
    }


def through_browser(recogniser: Recogniser | None) -> dict[str, list[float]]:
    """Speak the questions into Chromium's fake microphone and return the milliseconds of each part."""
    turns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder, how = Path(name), launch_arguments()
        video = write_y4m(folder / "seen.y4m", samples()[0].picture)
        sound = write_wav(folder / "said.wav", np.concatenate([silence(1), spoken("what_color"), silence(5)]))
        chromium = playwright.chromium.launch(**how | {"args": [*how["args"], *arguments(video, sound)]})
        with chromium, serve(load_engine(), live=Parts(recogniser, detector, "espeak-ng")) as site:
            context = chromium.new_context()
            context.add_init_script(NOTES)
            page = Visitor.arrives(context, site.address).page
            page.locator("#live-open").click()
            page.get_by_label("Hands-free").check()
            while len(turns) < QUESTIONS:
                page.wait_for_timeout(1000)
                turns = complete_turns(page.evaluate("came"))
    return {
        "speech to text": [turn["heard"] - turn["thinking"] for turn in turns],
        "text to first word": [turn["first_word"] - turn["heard"] for turn in turns],
        "first word to first sound": [turn["sound"] - turn["first_word"] for turn in turns],
        "end of speech noticed to first sound": [turn["sound"] - turn["thinking"] for turn in turns],
    }


def complete_turns(came: list[tuple[str, float]]) -> list[dict[str, float]]:
    """Return the first time of each message, for every question that was answered aloud."""
    turns: list[dict[str, float]] = []
    for name, at in came:
        if name == "listening":
            turns.append({})
        if turns:
            turns[-1].setdefault(name, at)
    return [turn for turn in turns if "sound" in turn]


def main() -> None:
    """Measure and print."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--browser", action="store_true", help="through Chromium's fake camera and microphone")
    flags.add_argument("--minutes", type=float, default=0.0, help="also speak for so long, and print the memory")
    given = flags.parse_args()
    print(
        f"Command: `python -m benchmarks.live {' '.join(sys.argv[1:])}`".rstrip(" `")
        + f"` · {date.today()} · {machine()}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        recogniser = load_recogniser(f"pocketsphinx:{grammar(Path(folder))}")
    if given.browser:
        show(through_browser(recogniser))
        return
    minutes = given.minutes
    found: dict[str, list[float]] = defaultdict(list)
    new = detector()
    assert new, "pip install silero-vad"
    for _ in range(100):
        began = time.perf_counter()
        new(np.zeros(CHUNK, np.float32))
        found["detector, per chunk"].append(1000 * (time.perf_counter() - began))
    timed = Timed(load_engine())
    talk = timed.talk = Talk(Parts(recogniser, detector, "espeak-ng"), timed.send)
    talk.receive(Command(type="hands_free", on=True))
    for _ in range(QUESTIONS):
        for name, value in one_question(talk, timed).items():
            found[name].append(value)
    show(found)
    if minutes:
        print(f"\n{minutes:g} minutes hands-free: {memory(talk, timed, minutes)}")
    talk.close()


def show(found: dict[str, list[float]]) -> None:
    """Print a table of the parts."""
    print("| part | median | slowest | goal |\n|---|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):.0f} ms | {max(values):.0f} ms | {GOALS.get(name, '')} |")


def memory(talk: Talk, timed: Timed, minutes: float) -> str:
    """Speak for so long and return how the memory of the process grew."""
    process, end, count, halfway = psutil.Process(), time.monotonic() + 60 * minutes, 0, 0.0
    while (left := end - time.monotonic()) > 0:
        one_question(talk, timed)
        count += 1
        if not halfway and left < 30 * minutes:
            halfway = process.memory_info().rss / 2**20
    at_end = process.memory_info().rss / 2**20
    threads = threading.active_count()
    return f"{count} questions, {halfway:.0f} MiB at half time, {at_end:.0f} MiB at the end, {threads} threads"


if __name__ == "__main__":
    main()
