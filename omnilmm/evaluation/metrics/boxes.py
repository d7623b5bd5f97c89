"""Boxes: intersection over union, and answers that are compared to the letter but for their boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omnilmm.evaluation.metrics.base import Asked, Mark

LEAST_OVERLAP = 0.5
BOX = re.compile(r"<box>(\d+) (\d+) (\d+) (\d+)</box>")
Corners = Sequence[int]


def overlap(one: Corners, other: Corners) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom), from 0 to 1."""
    wide = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return wide * high / max(areas - wide * high, 1)


def boxes_in(text: str) -> list[tuple[int, ...]]:
    """Return the boxes of a text as MiniCPM-V writes them: thousandths of width and height."""
    return [tuple(map(int, corners)) for corners in BOX.findall(text)]


def box_iou(asked: Asked, answer: str) -> Mark:
    """Mark 1 if the first box of the answer overlaps a right one by at least one half (Acc@0.5, as for RefCOCO).

    Source: RefCOCO's accuracy at IoU 0.5 (arXiv:1608.00272). A right answer has its box as the answers do.
    """
    given = boxes_in(answer)
    best = (
        max((overlap(box, given[0]) for right in asked.answers for box in boxes_in(right)), default=0.0) if given else 0
    )
    return Mark(float(best >= LEAST_OVERLAP), f"IoU {best:.3f}", problem="" if given else "has no box")


def literal(asked: Asked, answer: str) -> Mark:
    """Mark 1 if the answer equals a right one to the letter, except that boxes need only overlap by one half.

    Boxes are as many as in the right answer, in any order, each matched with the best of the remaining ones. It is the
    metric of the built-in model's card.
    """
    return Mark(float(any(is_right(right, answer) for right in asked.answers)))


def is_right(true: str, answer: str) -> bool:
    """Return whether an answer equals the true one but for its boxes, and they overlap by `LEAST_OVERLAP`."""
    if "<box>" not in true:
        return answer == true
    if BOX.sub("<box>", answer) != BOX.sub("<box>", true):
        return False
    given = boxes_in(answer)
    for box in boxes_in(true):
        best = max(given, key=lambda other: overlap(box, other))
        if overlap(box, best) < LEAST_OVERLAP:
            return False
        given.remove(best)
    return True
