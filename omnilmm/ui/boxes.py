"""What an answer marks in a picture: `<ref>name</ref><box>x1 y1 x2 y2</box>`, quads and points; `drawing` draws them.

Positions are numbers of 0 to 1000 across and down the picture, as the published models give them. A tag is replaced by
what it marks and by nothing else: text between two of them stays, and what does not read as a mark stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

GRID = 1000
Kind = Literal["box", "quad", "point"]
Point = tuple[float, float]

# Told apart also by people who see few colours (after Okabe and Ito), and dark enough for white letters on them.
COLOURS = ("#b34e00", "#0072b2", "#00704f", "#9b4577", "#8a5d00", "#1f6f9f")


_MARK = re.compile(
    r"(?:<ref>(?P<name>(?:(?!<ref>|</ref>).)*)</ref>\s*)?<(?P<kind>box|quad|point)>(?P<numbers>[^<>]*)</(?P=kind)>"
    r"|<ref>(?P<alone>(?:(?!<ref>|</ref>).)*)</ref>",
    re.DOTALL,
)
_BEGUN = re.compile(r"<(?:/?[a-z]*|ref>[^<]*(?:<[^>]*)?|(?:box|quad|point)>[^<]*(?:<[^>]*)?)$")
_LISTED = re.compile(r"[\s,;、，]*(?:and|和)?\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SEPARATORS = re.compile(r"[\s,;()\[\]]*")
_COUNTS: dict[Kind, int] = {"box": 4, "quad": 8, "point": 2}


@dataclass(frozen=True)
class Region:
    """Something marked.

    Attributes:
        kind: a box, a polygon of four corners, or a point.
        label: what it was called; empty if it was not.
        points: across and down, 0 to 1: two corners of a box, four of a quad, or one.
    """

    kind: Kind
    label: str
    points: tuple[Point, ...]


def parts(answer: str, *, is_growing: bool = False) -> list[str | Region]:
    """Text and regions of an answer, in order.

    Args:
        answer: as the model gave it.
        is_growing: more will come: a tag that has only begun is left out until it is whole.
    """
    if is_growing:
        answer = _without_begun(answer)
    found: list[str | Region] = []
    end, label = 0, ""
    for match in _MARK.finditer(answer):
        between = answer[end : match.start()]
        if between:
            found.append(between)
        if _LISTED.fullmatch(between) is None:  # several boxes in a row share the name before the first
            label = ""
        end = match.end()
        if match["alone"] is not None:
            found.append(match["alone"])
            continue
        label = label if match["name"] is None else match["name"].strip()
        region = _region(match["kind"], label, match["numbers"])
        found.append(match[0] if region is None else region)
    return [*found, answer[end:]] if answer[end:] else found


def _without_begun(answer: str) -> str:
    begun = _BEGUN.search(answer)
    if begun is None:
        return answer
    name = re.match(r"<ref>([^<]*)", begun[0])
    return answer[: begun.start()] + (name[1] if name else "")


def _region(kind: str, label: str, numbers: str) -> Region | None:
    """None where it is no region: a wrong number of numbers, or one outside the grid."""
    values = [float(number) for number in _NUMBER.findall(numbers)]
    wanted = next(k for k in get_args(Kind) if k == kind)
    is_plain = _SEPARATORS.fullmatch(_NUMBER.sub("", numbers)) is not None
    if not is_plain or len(values) != _COUNTS[wanted] or max(values) > GRID:
        return None
    points = [(x / GRID, y / GRID) for x, y in zip(values[::2], values[1::2], strict=True)]
    if kind == "box":
        (x1, y1), (x2, y2) = points
        points = [(min(x1, x2), min(y1, y2)), (max(x1, x2), max(y1, y2))]
    return Region(wanted, label, tuple(points))


def regions(answer: str) -> list[Region]:
    """All regions of an answer."""
    return [part for part in parts(answer) if isinstance(part, Region)]


def names(marked: Sequence[Region]) -> list[str]:
    """What regions are called on the picture and in the text: their labels, or their numbers."""
    return [region.label or str(number) for number, region in enumerate(marked, 1)]


def colours(marked: Sequence[Region]) -> list[int]:
    """Numbers of their colours in COLOURS; what is called the same has the same one."""
    distinct = list(dict.fromkeys(names(marked)))
    return [distinct.index(name) % len(COLOURS) for name in names(marked)]


def with_chips(answer: str, chip: Callable[[str, int], str], *, is_growing: bool = False) -> str:
    """The answer with a chip in place of each region, one for several that follow each other under one name.

    Args:
        answer: as the model gave it.
        chip: gives the markup for a name and the number of its colour in COLOURS.
        is_growing: see `parts`.
    """
    found = parts(answer, is_growing=is_growing)
    marked = [part for part in found if isinstance(part, Region)]
    named = iter(zip(names(marked), colours(marked), strict=True))
    told, before = [], ""
    for part in found:
        if isinstance(part, str):
            told.append(part)
            before = before if part.isspace() else ""
            continue
        name, colour = next(named)
        if name != before:
            told.append(chip(name, colour))
        before = name
    return "".join(told)
