"""Many people on a page at once, without browsers: nothing of one may ever reach another.

    python -m tests.stress gradio --users 32 --minutes 10
    python -m tests.stress streamlit --users 32 --minutes 10 --unruly

Everybody has a picture and a code word of their own, asks about the picture, and asks once more with the code word.
With `--unruly` they also stop answers, close and reload pages, and choose other dtypes for the model. The server is the
real one with the built-in model, in this process; the users speak its HTTP and websockets from threads of the same
process. Whatever is wrong ends it with 1; figures are printed.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
from PIL import Image

from omnilmm.engine.choosing import listed
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.spaces.fallback import provide
from omnilmm.ui.flags import FEATURE_CACHE_MIB, PREFIX_CACHE_MIB
from omnilmm.ui.offer import Offer
from omnilmm.ui.samples import Sample, samples

FIRST_WORD = re.compile(r"([\d.]+) s to first word")
BOX = re.compile(r"<ref>(.*?)</ref><box>.*?</box>")
DTYPES = ("fp32", "bf16")
QUIET_S = 120.0  # until everything of those who left is gone; Streamlit keeps a broken line's session for a minute


@dataclass
class Figures:
    """What was measured and what went wrong, by all users together."""

    first_word_s: list[float] = field(default_factory=list)
    answers: int = 0
    stops: int = 0
    leaves: int = 0
    switches: int = 0
    wrong: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


def own_picture(sample: Sample, number: int) -> bytes:
    """A sample with a few pixels of its user's own, so that no cache may take it for another one's."""
    with Image.open(sample.picture) as opened:
        picture = opened.convert("RGB")
    for bit in range(10):
        picture.putpixel((bit, 0), (255 - (number >> bit & 1), 255, 255))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


@dataclass
class User:
    """One person, from first to last.

    Attributes:
        tab: `GradioTab` or `StreamlitTab`: what is open now.
    """

    number: int
    page: Any
    figures: Figures
    codes: tuple[str, ...]
    unruly: bool
    tab: Any = None

    def __post_init__(self) -> None:
        self.code = self.codes[self.number]
        self.sample = samples()[self.number % len(samples())]
        self.picture = own_picture(self.sample, self.number)
        self.chance = random.Random(self.number)

    def live(self, end: float) -> None:
        """Ask, and ask again, until the time is over; what fails is noted."""
        try:
            while time.monotonic() < end:
                self.tab = self.page.open()
                self._talk()
                if self.unruly and self.chance.random() < 0.3:
                    self._reload()
                self._leave()
        except Exception as error:
            self.figures.wrong.append(f"user {self.number}: {type(error).__name__}: {str(error)[:300]}")
            with suppress(Exception):
                self._leave()

    def _talk(self) -> None:
        for question, picture in ((self.sample.question, self.picture), (f"{self.code}: what is this?", None)):
            stops = self.unruly and self.chance.random() < 0.25
            switched = self.figures.switches
            if self.unruly and self.chance.random() < 0.02:
                self.figures.switches += 1
                self.page.switch(self.chance.choice(DTYPES))
            answer, note = self.tab.ask(question, picture, self.chance.uniform(0.05, 2) if stops else None)
            self.figures.answers += 1
            self.figures.stops += stops
            is_whole = bool(FIRST_WORD.search(note)) and "stopped" not in note
            self.figures.first_word_s += [float(FIRST_WORD.findall(note)[-1])] if is_whole else []
            if not is_whole and not stops and switched == self.figures.switches and not self.page.is_switching():
                self.figures.wrong.append(f"user {self.number}: nobody stopped this: {note!r} {answer[-80:]!r}")
            # Streamlit's page draws a box as a badge with its name.
            expected = self.sample.answer, BOX.sub(r"-badge[\1]", self.sample.answer)
            if picture and is_whole and not any(text in answer for text in expected):
                self.figures.wrong.append(f"user {self.number}: {answer!r} in place of {self.sample.answer!r}")
            self._look()
            if not is_whole:
                return

    def _look(self) -> None:
        seen = self.tab.seen()
        if strange := [code for code in self.codes if code != self.code and code in seen]:
            self.figures.wrong.append(f"user {self.number}: sees {strange}")

    def _reload(self) -> None:
        self.tab = self.tab.reload()
        self._look()

    def _leave(self) -> None:
        if self.tab is not None:
            self.figures.leaves += 1
            self.tab.leave()
            self.tab = None


def run(page: Any, users: int, seconds: float, *, unruly: bool) -> Figures:
    """Let so many people use a page for so long, and look that nothing of them stays.

    Args:
        page: `gradio_page()` or `streamlit_page()`, being served.
        users: at once.
        seconds: after which nobody begins anything.
        unruly: whether they stop, leave, reload and switch, too.
    """
    figures = Figures()
    codes = tuple(f"code{number:02d}{random.Random(number).randrange(10**6):06d}" for number in range(users))
    warm = User(0, page, Figures(), codes, unruly=False)
    warm.live(time.monotonic() + 0.01)
    figures.wrong += warm.figures.wrong
    before = {thread.name for thread in threading.enumerate()}
    end = time.monotonic() + seconds
    people = [User(number, page, figures, codes, unruly) for number in range(users)]
    threads = [threading.Thread(target=user.live, args=(end,), name=f"user {user.number}") for user in people]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        figures.memory_mib.append(psutil.Process().memory_info().rss / 2**20)
        threads[0].join(min(5.0, seconds / 20))
        for thread in threads:
            thread.join(0.01)
    figures.wrong += page.left_over(before)
    alone = max(warm.figures.first_word_s, default=0.0)
    slowest = max(figures.first_word_s, default=0.0)
    half, last = figures.memory_mib[len(figures.memory_mib) // 2], figures.memory_mib[-1]
    print(
        f"{page.name}: {users} users, {seconds:.0f} s{', unruly' if unruly else ''}: {figures.answers} answers, "
        f"{figures.stops} stops, {figures.leaves} pages closed, {figures.switches} switches; first word alone "
        f"{alone:.1f} s, slowest {slowest:.1f} s = {slowest / max(alone * users, 0.01):.2f} × fair share; "
        f"memory at half time {half:.0f} MiB, at the end {last:.0f} MiB; wrong: {len(figures.wrong)}",
        flush=True,
    )
    for line in figures.wrong[:20]:
        print(f"  {line}", flush=True)
    if seconds >= 300 and last > half * 1.1 + 50:
        figures.wrong.append(f"memory grew from {half:.0f} to {last:.0f} MiB")
    return figures


@contextmanager
def model() -> Iterator[tuple[ModelProvider, Offer]]:
    """The built-in model as the programs load it, which can be switched."""
    arguments = {"model": "built-in", "device": "cpu", "dtype": "auto", "revision": None, "hub": "huggingface"}
    caches = {"feature_cache_mib": FEATURE_CACHE_MIB, "prefix_cache_mib": PREFIX_CACHE_MIB}
    provider = provide(arguments | caches | {"offline": True, "max_memory": None}, lambda done, total: None)
    provider.wait()
    yield provider, Offer(partial(listed, "cpu", "huggingface"), lambda: DTYPES)
    provider.stop()


def main() -> int:
    """See above."""
    from tests.stress_pages import PAGES

    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("page", choices=PAGES)
    flags.add_argument("--users", type=int, default=32)
    flags.add_argument("--minutes", type=float, default=10)
    flags.add_argument("--unruly", action="store_true", help="with Stops, closed and reloaded pages, and switches")
    given = flags.parse_args()
    with model() as (provider, offer), PAGES[given.page](provider, offer) as page:
        return 1 if run(page, given.users, given.minutes * 60, unruly=given.unruly).wrong else 0


if __name__ == "__main__":
    sys.exit(main())
