"""Many people on a page at once, without browsers: nothing of one may ever reach another.

    python -m tests.stress gradio --users 32 --minutes 10
    python -m tests.stress streamlit --users 32 --minutes 10 --unruly

Everybody has a code word, and for each visit a picture of their own, asks about it, and asks once more with the word.
With `--unruly` they also stop answers, close and reload pages, and choose other dtypes for the model. The server is the
real one with the built-in model, in this process; the people are in another one, and speak its HTTP and websockets
(`tests.stress_people`). Whatever is wrong ends it with 1; figures are printed.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any
from unittest.mock import patch

import psutil

from omnilmm.engine.choosing import listed
from omnilmm.engine.events import Event, Finished
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.spaces.fallback import provide
from omnilmm.ui.offer import Offer
from tests.stress_pages import MOST_BYTES
from tests.stress_people import DTYPES, Figures, live

PERCENTILES = {"median": 50, "p99": 99, "slowest": 100}


def run(page: Any, users: int, seconds: float, *, unruly: bool) -> Figures:
    """Let so many people use a page for so long, and look that nothing of them stays.

    Args:
        page: `gradio_page()` or `streamlit_page()`, being served.
        users: at once.
        seconds: after which nobody begins anything.
        unruly: whether they stop, leave, reload and switch, too.
    """
    before = {thread.name for thread in threading.enumerate()}
    used_s = _cpu_s()
    with first_words(page.provider) as waited_s:
        alone, figures, count = _lives(page, users, seconds, waited_s, unruly=unruly)
    used_s = _cpu_s() - used_s
    figures.wrong += page.left_over(before)
    half, last = figures.memory_mib[len(figures.memory_mib) // 2], figures.memory_mib[-1]
    print(
        f"{page.name}: {users} users, {seconds:.0f} s{', unruly' if unruly else ''}: {figures.answers} answers, "
        f"{figures.stops} stops, {figures.leaves} pages closed, {figures.switches} switches; "
        f"first word on the page: {_shares(figures.waited_s, alone.waited_s, users)}; "
        f"of the model: {_shares(waited_s[count:], waited_s[:count], users)}; "
        f"CPU time of the page {used_s:.0f} s; "
        f"memory {' '.join(f'{figures.memory_mib[len(figures.memory_mib) * tenth // 10]:.0f}' for tenth in range(10))} "
        f"{last:.0f} MiB in tenths of the time; wrong: {len(figures.wrong)}",
        flush=True,
    )
    for line in figures.wrong[:20]:
        print(f"  {line}", flush=True)
    if seconds >= 300 and last > half * 1.1 + 50:
        figures.wrong.append(f"memory grew from {half:.0f} to {last:.0f} MiB")
    return figures


@contextmanager
def first_words(provider: ModelProvider) -> Iterator[list[float]]:
    """The seconds in which the model gets to a first word, of all answers that come to their end; pages round them."""
    waited_s: list[float] = []
    stream = provider.stream

    def measured(*asked: Any, **how: Any) -> Generator[Event]:
        with closing(stream(*asked, **how)) as events:
            for event in events:
                if isinstance(event, Finished):
                    waited_s.append(event.timings.waited_s + event.timings.first_token_s)
                yield event

    with patch.object(provider, "stream", measured):
        yield waited_s


def _lives(
    page: Any, users: int, seconds: float, waited_s: list[float], *, unruly: bool
) -> tuple[Figures, Figures, int]:
    """The figures of one person alone and of all, and how many answers were those of the one."""
    spawn = get_context("spawn")
    line, theirs = spawn.Pipe()
    people = spawn.Process(target=live, args=(theirs, page.client, users, seconds, unruly), daemon=True)
    people.start()
    theirs.close()  # so that their end is seen
    memory_mib: list[float] = []
    alone, count = None, 0
    try:
        while True:
            if line.poll(min(5.0, seconds / 20)):
                said = line.recv()
                if isinstance(said, Figures) and alone is None:
                    alone, count = said, len(waited_s)
                    continue
                if isinstance(said, Figures) and alone is not None:
                    people.join()
                    said = replace(said, wrong=alone.wrong + said.wrong, memory_mib=[*memory_mib, _memory_mib()])
                    return alone, said, count
                if said:
                    page.switch(said)
                line.send(page.is_switching())
            memory_mib.append(_memory_mib())
    finally:
        people.kill()


def _memory_mib() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


def _shares(seconds: list[float], alone: list[float], users: int) -> str:
    """How long the first words took, and how much of a fair share: what one alone waits, times so many."""
    alone_s = median(alone[::2] or [0.001])  # every other question has a picture
    ordered, share_s = sorted(seconds) or [0.0], alone_s * users
    lines = [f"alone {alone_s:.3f} s"]
    for name, percent in PERCENTILES.items():
        waited_s = ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
        lines.append(f"{name} {waited_s:.2f} s = {waited_s / share_s:.2f} × fair share")
    return ", ".join(lines)


def _cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


@contextmanager
def model() -> Iterator[tuple[ModelProvider, Offer]]:
    """The built-in model as the programs load it, which can be switched; with small caches, see `MOST_BYTES`."""
    arguments = {"model": "built-in", "device": "cpu", "dtype": "auto", "revision": None, "hub": "huggingface"}
    caches = dict.fromkeys(("feature_cache_mib", "prefix_cache_mib"), MOST_BYTES // 2**20)
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
