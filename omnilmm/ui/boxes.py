"""Regions that an answer marks: `<ref>name</ref><box>x1 y1 x2 y2</box>`, quads and points; `drawing` draws them.

Coordinates run from 0 to 1000 across and down the picture, as in the published models. Only the tags are replaced by
the region: text between two of them stays, and anything that does not parse as a region is left unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

GRID = 1000
Kind = Literal["box", "quad", "point"]
Point = tuple[float, float]

# Distinguishable with colour blindness (after Okabe and Ito), and dark enough for white letters.
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
    """A marked region of a picture.

    Attributes:
        kind: a box, a polygon of four corners, or a point.
        label: its name; empty if it has none.
        points: (x, y) from 0 to 1: two corners of a box, four of a quad, or one point.
    """

    kind: Kind
    label: str
    points: tuple[Point, ...]


def parts(answer: str, *, is_partial: bool = False) -> list[str | Region]:
    """Split an answer into text and regions, in order.

    Args:
        answer: the output of the model.
        is_partial: the answer is incomplete: an unfinished tag at its end is left out.
    """
    if is_partial:
        answer = _without_begun(answer)
    found: list[str | Region] = []
    end, label = 0, ""
    for match in _MARK.finditer(answer):
        between = answer[end : match.start()]
        if between:
            found.append(between)
        if _LISTED.fullmatch(between) is None:  # consecutive boxes share the preceding name
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
    """Return the region; None if it is malformed: a wrong number of coordinates, or one outside the grid."""
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
    """Return all regions of an answer."""
    return [part for part in parts(answer) if isinstance(part, Region)]


def names(marked: Sequence[Region]) -> list[str]:
    """Return the names of regions on the picture and in the text: their labels, or else their numbers."""
    return [region.label or str(number) for number, region in enumerate(marked, 1)]


def colours(marked: Sequence[Region]) -> list[int]:
    """Return the index of each region's colour in COLOURS; regions with the same name share a colour."""
    distinct = list(dict.fromkeys(names(marked)))
    return [distinct.index(name) % len(COLOURS) for name in names(marked)]


def with_chips(answer: str, chip: Callable[[str, int], str], *, is_partial: bool = False) -> str:
    """Replace each region of an answer by a chip; consecutive regions under one name share a chip.

    Args:
        answer: the output of the model.
        chip: returns the markup for a name and the index of its colour in COLOURS.
        is_partial: see `parts`.
    """
    found = parts(answer, is_partial=is_partial)
    marked = [part for part in found if isinstance(part, Region)]
    named = iter(zip(names(marked), colours(marked), strict=True))
    pieces, before = [], ""
    for part in found:
        if isinstance(part, str):
            pieces.append(part)
            before = before if part.isspace() else ""
            continue
        name, colour = next(named)
        if name != before:
            pieces.append(chip(name, colour))
        before = name
    return "".join(pieces)
