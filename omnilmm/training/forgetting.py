"""Asks fixed questions before and after training: what was learnt, and what was forgotten.

Questions come from files in the form of the training data. Every answer of a row is asked for with the true answers
before it as history; it counts if it equals the true one, spaces at the edges aside. A row may name its `group`, which
then has a line of its own in the table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished
from omnilmm.engine.options import options_for
from omnilmm.training.examples import Example

Shares = dict[str, tuple[float, int]]
ROOM_TOKENS = 16  # that an answer may be longer than the true one before it is cut off, and counts as wrong


def shares(engine: Engine, files: Mapping[str, Sequence[Example]]) -> Shares:
    """Ask all questions; return the share of right answers and their number, by group.

    Args:
        engine: the model.
        files: examples by the name that stands for those without a group.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for name, examples in files.items():
        for example in examples:
            group = f"{name}: {example.row.group}" if example.row.group else name
            right[group] += _asked(engine, example.conversation())
    return {group: (sum(found) / len(found), len(found)) for group, found in right.items()}


def _asked(engine: Engine, talk: Conversation) -> list[bool]:
    found = []
    for number, message in enumerate(talk.messages):
        if message.role == "assistant":
            asked = replace(talk, messages=talk.messages[:number])
            found.append(answer(engine, asked, len(message.text) + ROOM_TOKENS) == message.text.strip())
    return found


def answer(engine: Engine, asked: Conversation, most_tokens: int) -> str:
    """Answer with the most likely token each time."""
    limit = min(most_tokens, engine.card.max_new_tokens)
    options = options_for(engine.card, temperature=0.0, repetition_penalty=1.0, seed=0, max_new_tokens=limit)
    *_, last = engine.stream(asked, options, owner="training")
    return last.text.strip() if isinstance(last, Finished) else ""


def table(before: Shares, after: Shares) -> str:
    """Return the report as a Markdown table."""
    lines = ["| questions | number | right before | right after | change |", "|---|---|---|---|---|"]
    for group, (share, count) in after.items():
        first = before.get(group, (0.0, 0))[0]
        lines.append(f"| {group} | {count} | {first:.3f} | {share:.3f} | {share - first:+.3f} |")
    return "\n".join(lines)
