"""What `check` writes about a data file: problems, one prompt with the learnt tokens marked, lengths, memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from omnilmm.hardware import gib
from omnilmm.prompts.pieces import IGNORED, Prompt
from omnilmm.training.examples import Example, Problem
from omnilmm.training.memory import Memory

BARS, WIDTH = 10, 40
OPEN, CLOSE = "«", "»"


def write_problems(path: Path, problems: Sequence[Problem], out: TextIO) -> None:
    """Write every bad row: file, line, reason."""
    for problem in problems:
        out.write(f"{path}:{problem.line}: {problem.reason}\n")


def write_summary(path: Path, examples: Sequence[Example], out: TextIO) -> None:
    """Write the numbers of rows, tokens and learnt tokens, and a histogram of the lengths."""
    lengths = [len(example.prompt) for example in examples]
    learnt = sum(example.learnt for example in examples)
    pictures = sum(any(example.prompt.image_slots) for example in examples)
    out.write(
        f"{path}: {len(examples)} rows, {pictures} of them with pictures; {sum(lengths)} tokens, {learnt} of them to "
        f"learn; the longest row has {max(lengths)}\n\nTokens per row:\n"
    )
    for begin, end, count in histogram(lengths):
        bar = "#" * -(-count * WIDTH // len(lengths))
        out.write(f"{begin:>7} - {end:<7}{count:>6} {bar}\n")


def histogram(lengths: Sequence[int], bars: int = BARS) -> list[tuple[int, int, int]]:
    """Return (first, last, count) of some bins of equal width, from the shortest to the longest."""
    least, most = min(lengths), max(lengths)
    width = max(-(-(most - least + 1) // bars), 1)
    bins = [(begin, begin + width - 1) for begin in range(least, most + 1, width)]
    return [(begin, end, sum(begin <= length <= end for length in lengths)) for begin, end in bins]


def marked(prompt: Prompt, tokenizer: Any) -> str:
    """Return a prompt as text, with what is learnt in «…» and picture features counted."""
    written = []
    rows = zip(prompt.input_ids, prompt.image_slots, prompt.labels, strict=True)
    for (is_slot, in_loss), group in groupby(rows, key=lambda row: (row[1], row[2] != IGNORED)):
        run = list(group)
        if is_slot:
            written.append(f"[{len(run)} picture tokens]")
            continue
        text = str(tokenizer.decode([label if in_loss else token for token, _, label in run]))
        written.append(f"{OPEN}{text}{CLOSE}" if in_loss else text)
    return "".join(written)


def write_memory(rows: Sequence[Memory], batch_size: int, device: str, out: TextIO) -> None:
    """Write what each method needs, and whether it fits."""
    free = rows[0].free
    there = "" if free is None else f", {gib(free)} free"
    out.write(f"\nMemory, estimated for batches of {batch_size} of the longest row ({device}{there}):\n")
    for row in rows:
        fits = {True: "fits", False: "does not fit", None: ""}[row.fits]
        out.write(
            f"  --method {row.method:<6} {row.trained:>14,} trained parameters  {gib(row.total):>10}  {fits}\n"
            f"      weights {gib(row.weights)}, gradients and optimizer {gib(row.states)}, "
            f"activations {gib(row.activations)}\n"
        )
