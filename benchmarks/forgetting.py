"""What a new task costs the built-in model's old abilities: `make bench-forgetting`.

The model learns the part numbers of `tests/training/parts.py` by the program that a user runs, with old questions mixed
in; then it is asked for the part numbers of unseen drawings, and unseen questions of each old ability. A test of the
suite runs the same with fewer abilities.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from built_in.lessons import ASKERS
from omnilmm.training.__main__ import main as train
from tests.training.parts import write_old, write_parts

ABILITIES = ("colour", "shape", "count", "yes_no")
ASKED = 100  # questions of each old ability: one of them is 0.01
PARTS, REPLAYED, UNSEEN = 320, 200, 60
SETTINGS = ("--batch-size", "4", "--accumulate", "1", "--epochs", "2", "--learning-rate", "1e-3")


def learn(folder: Path, abilities: Sequence[str], parts: int, replayed: int, flags: Sequence[str] = ()) -> str:
    """Train in a folder, of which `parts` becomes the adapter; return what the program prints, with the table.

    Args:
        folder: an empty folder.
        abilities: old abilities that are asked for.
        parts: number of drawings to learn from.
        replayed: rows of each old ability that are mixed in.
        flags: further ones of `train`.
    """
    files = {
        "--data": write_parts(folder, "train", parts, seed=1),
        "--eval-data": write_parts(folder, "unseen", UNSEEN, seed=2),
        "--replay": write_old(folder, "replay", replayed, 4, abilities),
        "--keep-eval": write_old(folder, "old", ASKED, 3, abilities),
        "--out": folder / "parts",
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = train(["train", *(str(part) for pair in files.items() for part in pair), *SETTINGS, *flags])
    if code:
        raise SystemExit(code)
    return printed.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Train and print the table; flags that are not known here go to `train`."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.forgetting", description=__doc__.splitlines()[0])
    flags.add_argument("--abilities", nargs="+", choices=ASKERS, default=ABILITIES, metavar="ABILITY")
    flags.add_argument("--parts", type=int, default=PARTS, help="drawings to learn from (default: %(default)s)")
    flags.add_argument(
        "--replayed", type=int, default=REPLAYED, help="rows of each old ability mixed in (default: %(default)s)"
    )
    args, others = flags.parse_known_args(arguments)
    began_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(learn(Path(folder), args.abilities, args.parts, args.replayed, others))
    print(f"{time.process_time() - began_s:.0f} seconds of CPU time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
