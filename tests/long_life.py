"""A long life in one process: `python -m tests.long_life [--turns 2000]`; `make long-life` runs it.

Eight visitors ask the built-in model about new pictures, one or several, in conversations of a few turns; every fifth
answer is stopped, some fail, and every hundred turns another model takes its place. At the end there is no more memory,
and there are no more handles, threads and processes than after the first fifth.
"""

from __future__ import annotations

import argparse
import gc
import io
import random
import shutil
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from PIL import Image, ImageDraw

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.events import Finished, TextDelta
from omnilmm.engine.loading import prepare
from omnilmm.engine.options import options_for
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.images.pixels import open_picture

VISITORS, TURNS, MOST_TURNS = 8, 2000, 6
BUILT_IN = "built-in"
MOST_GROWTH_MB = 40  # of some hundred: what allocators keep goes up and down by that much
COUNTED = ("handles", "threads", "children")
PATIENCE_S = 60  # for what is about to end


@dataclass(frozen=True)
class Load:
    """What the process holds."""

    turn: int
    memory_mb: float
    handles: int
    threads: int
    children: int

    def __str__(self) -> str:
        return (
            f"{self.turn:6d} turns: {self.memory_mb:6.0f} MB, {self.handles} handles, {self.threads} threads, "
            f"{self.children} processes"
        )


def load_now(turn: int, before: Load | None = None) -> Load:
    """After a collection; what is about to end, as a thread, may do so until there is no more than before."""
    gc.collect()
    end_s = time.monotonic() + PATIENCE_S
    while True:
        time.sleep(0.2)
        now = _measure(turn)
        if before is None or not more(before, now) or time.monotonic() > end_s:
            return now


def _measure(turn: int) -> Load:
    process = psutil.Process()
    handles = process.num_handles() if sys.platform == "win32" else process.num_fds()
    memory = process.memory_info().rss / 2**20
    return Load(turn, memory, handles, threading.active_count(), len(process.children()))


def drawn(chance: random.Random) -> Picture:
    """A new picture, decoded like an upload."""
    size = chance.randint(60, 400), chance.randint(60, 400)
    image = Image.new("RGB", size, tuple(chance.randbytes(3)))
    ImageDraw.Draw(image).ellipse((10, 10, 50, 50), fill=tuple(chance.randbytes(3)))
    file = io.BytesIO()
    image.save(file, chance.choice(["PNG", "JPEG", "WEBP"]))
    return open_picture(file.getvalue())


def live(turns: int, report_every: int = 100, switch_every: int = 100) -> list[Load]:
    """So many turns; what the process held after each so many."""
    loads, chance = [], random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        other = shutil.copytree(ROOT / "assets" / "built-in", Path(folder) / "other")
        names = [BUILT_IN, str(other)]

        def get_ready(request: ModelRequest, freed: int, report: Any) -> Any:
            return prepare(request.model, device="cpu", feature_cache_mib=4, prefix_cache_mib=4)

        provider = ModelProvider(get_ready, names)
        provider.begin(ModelRequest(BUILT_IN))
        provider.wait()
        talks = [Conversation() for _ in range(VISITORS)]
        for turn in range(1, turns + 1):
            visitor = chance.randrange(VISITORS)
            talks[visitor] = _turn(provider, talks[visitor], visitor, turn, chance)
            if turn % switch_every == 0:
                provider.switch(names[turn // switch_every % 2])
                provider.wait()
            if turn % report_every == 0:
                loads.append(load_now(turn, loads[-1] if loads else None))
                print(loads[-1], flush=True)
    return loads


def _turn(provider: ModelProvider, talk: Conversation, visitor: int, turn: int, chance: random.Random) -> Conversation:
    if len(talk.messages) >= 2 * MOST_TURNS:
        provider.forget(visitor)
        talk = Conversation()
    pictures = [drawn(chance) for _ in range(chance.choice([0, 0, 1, 2]) if talk.messages else chance.choice([1, 3]))]
    words = " " if turn % 50 == 0 else chance.choice(["What is it?", "什么颜色？", "Where is the circle?"])
    mode = chance.choice(["sampling", "sampling", "sampling", "beam"])
    options = options_for(provider.card, mode, max_new_tokens=chance.randint(1, 6))
    asked = talk.with_message("user", *pictures, words)
    is_stopped = turn % 5 == 0
    with suppress(OmniLMMError), closing(provider.stream(asked, options, visitor)) as events:
        for event in events:
            if isinstance(event, Finished):
                return asked.with_message("assistant", event.text or "…")
            if is_stopped and (isinstance(event, TextDelta) or chance.random() < 0.3):
                break
    return talk


def more(begin: Load, end: Load) -> list[str]:
    """What there is more of in number."""
    grown = (what for what in COUNTED if getattr(end, what) > getattr(begin, what))
    return [f"{what}: {getattr(begin, what)} -> {getattr(end, what)}" for what in grown]


def grown(loads: list[Load], most_mb: float = MOST_GROWTH_MB) -> list[str]:
    """What there is more of at the end than after the first fifth, of memory so much more."""
    begin, end = loads[max(0, len(loads) // 5 - 1)], loads[-1]
    found = []
    if end.memory_mb > max(load.memory_mb for load in loads[: len(loads) // 5 + 1]) + most_mb:
        found.append(f"memory: {begin.memory_mb:.0f} -> {end.memory_mb:.0f} MB")
    return [*found, *more(begin, end)]


def main() -> int:
    """All of it, and what grew."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--turns", type=int, default=TURNS, help="(default: %(default)s)")
    turns = flags.parse_args().turns
    began_s = time.monotonic()
    found = grown(live(turns, report_every=max(turns // 20, 1)))
    print(f"{turns} turns in {time.monotonic() - began_s:.0f} s:", "; ".join(found) or "nothing has grown")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
