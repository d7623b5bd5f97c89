"""What a metric is: it marks one answer, and sums marks up to figures."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """What a metric needs to know of a question.

    Attributes:
        index: its name in the benchmark.
        answers: the right answers; any of them counts.
        options: the options of a multiple choice by their letters.
        group: for metrics over several questions, e.g. the picture in MME; the index if there is none.
        category: category, and coarser categories.
        objects: for CHAIR, what is in the picture.
    """

    index: str
    answers: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    category: str = ""
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """The mark of one answer.

    Attributes:
        credit: from 0 (wrong) to 1 (right).
        out_of: its weight in the mean, 1 but for metrics that count things in the answer.
        read: what was read from the answer, e.g. the letter of an option.
        gained: numerator of the mean, credit × out_of if left out.
        problem: why nothing could be read from the answer, if so.
        note: what a judge model says about it.
    """

    credit: float
    read: str = ""
    out_of: float = 1.0
    gained: float | None = None
    problem: str = ""
    note: str = ""

    @property
    def sum(self) -> float:
        """The numerator of the mean."""
        return self.credit * self.out_of if self.gained is None else self.gained


@dataclass(frozen=True)
class Ratio:
    """A figure before it is computed: `scale` · sum of gained / sum of out_of over units that are drawn together.

    Attributes:
        name: its name in tables.
        gained, out_of: of each unit (question, group of questions, picture).
        scale: 100 for per cent.
        most: the highest possible value.
    """

    name: str
    gained: Sequence[float]
    out_of: Sequence[float]
    scale: float = 100.0
    units: Sequence[str] = ()
    most: float = 100.0


@dataclass(frozen=True)
class Sum:
    """A figure that is the sum of others, as the score of MME."""

    name: str
    parts: tuple[Ratio, ...]

    @property
    def most(self) -> float:
        """The highest possible value."""
        return sum(part.most for part in self.parts)


Measured = Ratio | Sum
Marked = Sequence[tuple[Asked, Mark]]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: name on the command line.
        title: name in tables.
        mark: marks one answer.
        measure: computes the figures of a part of a benchmark, the main one first.
        lower_is_better: as for CHAIR.
        is_marked: whether it marks answers; False if only a judge model can.
        weight: what an answer that is missing is out of.
    """

    name: str
    title: str
    mark: Callable[[Asked, str], Mark]
    measure: Callable[[Marked], tuple[Measured, ...]]
    lower_is_better: bool = False
    is_marked: bool = True
    weight: float = 1.0


def accuracy(marked: Marked, name: str = "accuracy") -> tuple[Measured, ...]:
    """Return the mean mark over all questions, in per cent."""
    return (
        Ratio(
            name,
            [mark.sum for _, mark in marked],
            [mark.out_of for _, mark in marked],
            units=[asked.index for asked, _ in marked],
        ),
    )


def listed(cell: Any, *, is_table: bool = True) -> tuple[str, ...]:
    """Return the answers in a cell: the items of a list as JSON or Python write it, else the cell itself.

    A text is a list only in a table, which has no other way to write one, and only if all items are texts: "[1, 2]" is
    one answer. Nothing in a cell is executed: `ast.literal_eval` accepts literals only.

    Args:
        cell: a text, or a list from JSON.
        is_table: whether it is from TSV or CSV.
    """
    if isinstance(cell, list | tuple):
        return tuple(map(str, cell))
    text = str(cell)
    if is_table and text.strip()[:1] == "[":
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(text.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list) and found and all(isinstance(item, str) for item in found):
                return tuple(found)
    return (text,)
