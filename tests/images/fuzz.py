"""What odd picture files cost, one by one: `python -m tests.images.fuzz [--minutes 10]`; `make fuzz` runs it.

Every file of the corpus, and then new mutants (of exported conversations, too) until the time is over: each is taken or
refused in one line, and none takes more time or memory than it may. The costliest are listed; what fails is kept as a
file and named.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from omnilmm.archive import read_conversation, to_json
from omnilmm.conversation import Conversation
from omnilmm.errors import ImageError, InputError
from omnilmm.images.limits import limits
from omnilmm.images.pixels import open_picture
from tests.images import corpus

MAX_CHARACTERS = 300
POLL_S = 0.005
SHOWN = 15


@dataclass(frozen=True)
class Cost:
    """Of one file: bytes over those of an idle decoder, seconds, and what came of it."""

    name: str
    said: str
    memory_bytes: int
    cpu_s: float
    wall_s: float
    is_wrong: bool

    def __str__(self) -> str:
        taken = f"{self.memory_bytes / 2**20:6.0f} MB {self.cpu_s:6.2f} s CPU {self.wall_s:6.2f} s"
        return f"{taken}  {self.name}: {self.said:.80}"


class _Decoders:
    """The most that the processes of this one have taken so far, in all."""

    def __init__(self) -> None:
        self.memory_bytes, self.cpu_s = 0, 0.0

    def measure(self) -> None:
        for process in psutil.Process().children():
            try:
                times = process.cpu_times()
                self.memory_bytes = max(self.memory_bytes, process.memory_info().rss)
                self.cpu_s = max(self.cpu_s, times.user + times.system)
            except psutil.Error:
                continue

    @contextmanager
    def watched(self) -> Iterator[None]:
        done = threading.Event()

        def run() -> None:
            while not done.wait(POLL_S):
                self.measure()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            self.measure()
            done.set()
            thread.join()


def cost(name: str, content: bytes) -> Cost:
    """Open a picture and see what that takes."""
    open_picture(corpus.saved(corpus.drawing(), "PNG"))  # there is a process
    before, during = _Decoders(), _Decoders()
    before.measure()
    began_s = time.monotonic()
    with during.watched():
        try:
            picture = open_picture(content).image
            said, is_wrong = f"{picture.mode} {picture.size}", picture.mode != "RGB"
        except ImageError as error:
            said = str(error)
            is_wrong = "\n" in said or len(said) > MAX_CHARACTERS or "The process" in said
        except Exception as error:
            said, is_wrong = repr(error), True
    wall_s = time.monotonic() - began_s
    memory_bytes, cpu_s = during.memory_bytes - before.memory_bytes, max(0.0, during.cpu_s - before.cpu_s)
    bounds = limits()
    is_wrong |= memory_bytes > bounds.memory_bytes(bounds.pixels) + len(content) or cpu_s > 1.5 * bounds.seconds
    return Cost(name, said, memory_bytes, cpu_s, wall_s, is_wrong)


def main() -> int:
    """Open all of them."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--minutes", type=float, default=1, help="of new mutants, after them (default: %(default)s)")
    minutes = flags.parse_args().minutes
    wrong = [*_corpus(), *_mutants(minutes * 60)]
    print(f"{len(wrong)} wrong; limits: {limits()}", *wrong, sep="\n")
    return 1 if wrong else 0


def _corpus() -> list[str]:
    costs, wrong = [], []
    began_s = time.monotonic()
    for name, make in itertools.chain(corpus.files(), corpus.heavy()):
        content = make()
        costs.append(made := cost(name, content))
        if made.is_wrong:
            wrong.append(f"{made} -> {_kept(content)}")
    decoded = sum(made.said.startswith("RGB") for made in costs)
    print(
        f"{len(costs)} files in {time.monotonic() - began_s:.0f} s: {decoded} decoded, {len(costs) - decoded} refused"
    )
    for title, key in (("memory", lambda made: made.memory_bytes), ("time", lambda made: made.cpu_s)):
        print(f"\nThe costliest in {title}:", *sorted(costs, key=key, reverse=True)[:SHOWN], sep="\n")
    return wrong


def _mutants(seconds: float) -> list[str]:
    """New mutants of pictures and of a conversation, until the time is over."""
    picture = open_picture(corpus.saved(corpus.drawing(), "PNG"))
    talk = Conversation(system="简短").with_message("user", picture, "什么？").with_message("assistant", "Noise.")
    document = to_json(talk).encode()
    wrong: list[str] = []
    began_s, count = time.monotonic(), 0
    for seed in itertools.count(1):
        if time.monotonic() - began_s >= seconds:
            break
        chance = random.Random(seed)
        talks = (
            (f"conversation, mutant {seed}", partial(corpus.mutant, document, chance)) for _ in range(corpus.MUTANTS)
        )
        for name, make in itertools.chain(corpus.mutants(seed=seed), talks):
            count += 1
            content = make()
            try:
                read_conversation(content) if name.startswith("conversation") else open_picture(content)
            except InputError as error:
                if "The process" not in str(error):
                    continue
                wrong.append(f"{name}: {error} -> {_kept(content)}")
            except Exception as error:
                wrong.append(f"{name}: {error!r} -> {_kept(content)}")
    print(f"\n{count} mutants in {time.monotonic() - began_s:.0f} s")
    return wrong


def _kept(content: bytes) -> Path:
    with tempfile.NamedTemporaryFile(prefix="omnilmm-fuzz-", delete=False) as file:
        file.write(content)
    return Path(file.name)


if __name__ == "__main__":
    sys.exit(main())
