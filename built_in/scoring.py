"""Scoring of answers beyond `omnilmm.evaluation.metrics`: what descriptions name, and what answers quote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from built_in.language import CODES, language

_PRINTED = re.compile('["“]([A-Z0-9]*)["”]')
_NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}

_NOTHING = [language(code).say("nothing") for code in CODES]


def things_named(description: str) -> Counter[str]:
    """Count the things that a description names."""
    named: Counter[str] = Counter()
    if description in _NOTHING:
        return named
    text = description.removeprefix("I see ").removeprefix("我看到").rstrip(".。")
    for part in re.split(r", | and |、|和", text):
        if match := re.fullmatch(r"(\d+)个(.+)", part):
            named[match[2]] += int(match[1])
        elif (words := part.split(" ", 1))[0] in _NUMBERS and len(words) == 2:
            count = _NUMBERS[words[0]]
            named[re.sub("(?<=[a-rt-z])s$|(?<=ss)es$", "", words[1]) if count > 1 else words[1]] += count
        else:
            named[part.removeprefix("the ")] += 1
    return named


def precision_and_recall(pairs: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Return precision and recall of the things named in (true, answer) descriptions."""
    hits = named = there = 0
    for true, answer in pairs:
        wanted, given = things_named(true), things_named(answer)
        hits += (wanted & given).total()
        named += given.total()
        there += wanted.total()
    return hits / max(named, 1), hits / max(there, 1)


def printed_in(answer: str) -> str:
    """Return the printed texts that an answer quotes, joined by spaces; empty for none."""
    return " ".join(_PRINTED.findall(answer))
