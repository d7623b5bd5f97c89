"""Asks fixed questions before and after training: what was learnt, and what was forgotten.

Questions come from files in the form of the training data. Every answer of a row is asked for with the true answers
before it as history; it counts if it equals the true one, spaces at the edges aside. A row may name its `group`, which
then has a line of its own in the table.

Most rows need no generation: if at every place of the true answers the model holds the true token for the most likely
one, it would write them. One forward pass over a batch tells that; only the other rows are asked, which may still be
right, in other tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import options_for
from omnilmm.hardware import is_out_of_memory
from omnilmm.models.batches import collate
from omnilmm.prompts.pieces import IGNORED
from omnilmm.training.examples import Examples

Shares = dict[str, tuple[float, int]]
ROOM_TOKENS = 16  # that an answer may be longer than the true one before it is cut off, and counts as wrong


def shares(engine: LocalEngine, files: Mapping[str, Examples], batch_size: int = 1) -> Shares:
    """Ask all questions; return the share of right answers and their number, by group.

    Args:
        engine: the model, which is not in training.
        files: examples by the name that stands for those without a group.
        batch_size: how many rows are in one forward pass.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for name, data in files.items():
        certain = _certain(engine, data, batch_size)
        for example, is_certain in zip(data.examples, certain, strict=True):
            group = f"{name}: {example.row.group}" if example.row.group else name
            answers = sum(turn.role == "assistant" for turn in example.row.turns)
            right[group] += [True] * answers if is_certain else _asked(engine, example.conversation(), data.max_slices)
    return {group: (sum(found) / len(found), len(found)) for group, found in right.items()}


@torch.no_grad()
def _certain(engine: LocalEngine, data: Examples, batch_size: int) -> list[bool]:
    """Return for each row whether all tokens of its answers are the most likely ones."""
    found: list[bool] = []
    device = engine.model.device
    for start in range(0, len(data), batch_size):
        numbers = range(start, min(start + batch_size, len(data)))
        try:
            batch = collate([data[number] for number in numbers])
            labels = batch.pop("labels")[:, 1:]  # [B, S - 1]
            given = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
            likeliest = engine.model(**given, use_cache=False).logits[:, :-1].argmax(-1).cpu()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found += [False] * len(numbers)  # they are asked one by one
            continue
        found += ((likeliest == labels) | (labels == IGNORED)).all(1).tolist()
    return found


def _asked(engine: Engine, talk: Conversation, max_slices: int | None) -> list[bool]:
    found = []
    for number, message in enumerate(talk.messages):
        if message.role == "assistant":
            asked = replace(talk, messages=talk.messages[:number])
            text = answer(engine, asked, len(message.text) + ROOM_TOKENS, max_slices)
            found.append(text == message.text.strip())
    return found


def answer(engine: Engine, asked: Conversation, most_tokens: int, max_slices: int | None = None) -> str:
    """Answer with the most likely token each time; `max_slices` per picture where it is not the default."""
    chosen: dict[str, Any] = {"max_new_tokens": min(most_tokens, engine.card.max_new_tokens), "max_slices": max_slices}
    options = options_for(engine.card, temperature=0.0, repetition_penalty=1.0, seed=0, **chosen)
    *_, last = engine.stream(asked, options, owner="training")
    return last.text.strip() if isinstance(last, Finished) else ""


def table(before: Shares, after: Shares) -> str:
    """Return the report as a Markdown table."""
    lines = ["| questions | number | right before | right after | change |", "|---|---|---|---|---|"]
    for group, (share, count) in after.items():
        first = before.get(group, (0.0, 0))[0]
        lines.append(f"| {group} | {count} | {first:.3f} | {share:.3f} | {share - first:+.3f} |")
    return "\n".join(lines)
