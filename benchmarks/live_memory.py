"""Does the page grow while it is spoken to? `python -m benchmarks.live_memory [--minutes 10]`.

The page is a process of its own, so that its memory is that of nothing else. Chromium asks it hands-free, again and
again, through its fake camera and microphone; every minute begins a new chat. Needs `pip install pocketsphinx` and
espeak-ng.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.__main__ import ROOT, machine
from omnilmm.ui.samples import samples
from tests.browser import launch_arguments
from tests.live.sounds import grammar, silence, spoken
from tests.pages.fake_devices import arguments, write_wav, write_y4m
from tests.pages.visitor import Visitor


@contextmanager
def spoken_to(folder: Path) -> Iterator[tuple[Page, psutil.Process]]:
    """Yield the page in a browser, its live view open and hands-free, and the process that serves it."""
    parts = ("--live", "--voice", "espeak-ng", "--speech-model", f"pocketsphinx:{grammar(folder)}")
    command = [sys.executable, "-u", "web_demo.py", "--port", "0", *parts]
    video = write_y4m(folder / "seen.y4m", samples()[0].picture)
    sound = write_wav(folder / "said.wav", np.concatenate([silence(1), spoken("what_color"), silence(5)]))
    how = launch_arguments()
    how["args"] = [*how["args"], *arguments(video, sound)]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(**how) as chromium,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            lines = iter(server.stdout or ())
            address = next(found[0] for line in lines if (found := re.search(r"http://[\w.:]+\d", line)))
            next(line for line in lines if " on " in line and "memory" in line)
            page = Visitor.arrives(chromium.new_context(), address).page
            page.locator("#live-open").click()
            page.get_by_label("Hands-free").check()
            yield page, psutil.Process(server.pid)
        finally:
            server.terminate()


def main() -> None:
    """Measure and print."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--minutes", type=int, default=10)
    minutes = flags.parse_args().minutes
    print(f"Command: `python -m benchmarks.live_memory --minutes {minutes}` · {date.today()} · {machine()}\n")
    print("| minute | questions | memory | threads |\n|---|---|---|---|")
    asked = 0
    with tempfile.TemporaryDirectory() as folder, spoken_to(Path(folder)) as (page, server):
        for minute in range(1, minutes + 1):
            page.wait_for_timeout(60_000)
            asked += page.locator("#chat .user.message").count()
            memory = server.memory_info().rss / 2**20
            print(f"| {minute} | {asked} | {memory:.0f} MiB | {server.num_threads()} |", flush=True)
            page.locator("#clear").click()


if __name__ == "__main__":
    main()
