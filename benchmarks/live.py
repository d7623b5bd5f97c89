"""Benchmark the live view's latency, part by part: `make bench-live`; `--minutes 10` also measures its memory.

Questions spoken by a synthetic voice are given in real time, as a microphone does, to a hands-free conversation with
the built-in model: no browser, no network. With `--browser` they go through Chromium's fake camera and microphone and
the page, from the last loud sample that the page's script sends to the moment when it plays the answer. Needs
`pip install pocketsphinx` and espeak-ng.
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

from benchmarks.__main__ import machine
from benchmarks.live_browser import LOUD, ByBrowser
from omnilmm.conversation import Conversation
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.images.pixels import open_picture
from omnilmm.live.detection import detector
from omnilmm.live.hearing import CHUNK, RATE
from omnilmm.live.recognition import Recogniser, load_recogniser
from omnilmm.live.talk import Answer, Command, Parts, Talk
from omnilmm.ui.samples import samples
from tests.live.sounds import chunks, grammar, silence, spoken

QUESTIONS = 9
GOALS = {"end of speech": "≤ 500", "first sound after the first sentence": "≤ 300", "detector, per chunk": "≤ 10"}


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
    voiced = np.flatnonzero(np.abs(question) > LOUD)
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


def through_browser(recogniser: Recogniser | None, minutes: float) -> None:
    """Measure through Chromium, and print."""
    by = ByBrowser(recogniser)
    with by.running():
        while len(by.turns) < QUESTIONS:
            by.listen(1)
        show(by.parts)
        if minutes:
            hands_free(by, minutes)


def hands_free(by: ByBrowser, minutes: float) -> None:
    """Go on for so long, in ten chats one after the other, and print the memory and what waits."""
    began, most, count = time.monotonic(), 0, len(by.turns)
    print(f"\n{minutes:g} minutes hands-free, ten chats one after the other:\n\n| minute | memory |\n|---|---|")
    for tenth in range(10):
        by.begin_anew()
        print(f"| {tenth * minutes / 10:g} | {by.memory} |", flush=True)
        while time.monotonic() - began < 60 * minutes * (tenth + 1) / 10:
            by.listen(1)
            most = max(most, by.waiting[0])
    print(f"| {minutes:g} | {by.memory} |")
    print(f"\n{len(by.turns) - count} questions; at most {most} chunks waited, {by.waiting[1]} were dropped.\n")
    show(by.parts)


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
        through_browser(recogniser, given.minutes)
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
        digits = 1 if max(values) < 10 else 0
        middle, most = statistics.median(values), max(values)
        print(f"| {name} | {middle:.{digits}f} ms | {most:.{digits}f} ms | {GOALS.get(name, '')} |", flush=True)


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
