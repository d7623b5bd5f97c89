"""Scoring of answers: exact match, box overlap, precision and recall, character error rate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from built_in.language import CODES, language

LEAST_OVERLAP = 0.5  # minimum intersection over union of two boxes
_BOX = re.compile(r"<box>(\d+) (\d+) (\d+) (\d+)</box>")
_PRINTED = re.compile('["“]([A-Z0-9]*)["”]')
_NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}

_NOTHING = [language(code).say("nothing") for code in CODES]

Corners = tuple[int, ...]


def is_right(true: str, said: str) -> bool:
    """Return whether an answer matches exactly; boxes must match in name and number, and overlap by LEAST_OVERLAP."""
    if "<box>" not in true:
        return said == true
    if _BOX.sub("<box>", said) != _BOX.sub("<box>", true):
        return False
    wanted, given = _boxes(true), _boxes(said)
    for box in wanted:  # match each with the best of the remaining ones
        best = max(given, key=lambda other: overlap(box, other))
        if overlap(box, best) < LEAST_OVERLAP:
            return False
        given.remove(best)
    return True


def _boxes(text: str) -> list[Corners]:
    return [tuple(map(int, corners)) for corners in _BOX.findall(text)]


def overlap(one: Corners, other: Corners) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom)."""
    wide = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return wide * high / max(areas - wide * high, 1)


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
    """Return precision and recall of the things named in (true, said) descriptions."""
    hits = named = there = 0
    for true, said in pairs:
        wanted, given = things_named(true), things_named(said)
        hits += (wanted & given).total()
        named += given.total()
        there += wanted.total()
    return hits / max(named, 1), hits / max(there, 1)


def printed_in(answer: str) -> str:
    """Return the printed texts that an answer quotes, joined by spaces; empty for none."""
    return " ".join(_PRINTED.findall(answer))


def character_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the character error rate of (true, said) texts: edits per true character."""
    return sum(_edits(true, said) for true, said in pairs) / max(sum(len(true) for true, _ in pairs), 1)


def _edits(one: str, other: str) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, 1):
        corner, row[0] = row[0], number
        for place, opposite in enumerate(other, 1):
            corner, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, corner + (character != opposite))
    return row[-1]
