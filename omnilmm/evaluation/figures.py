"""Figures with their bootstrap intervals.

Units (questions, groups of rotations, pictures) are drawn with replacement 1000 times, by a generator with a fixed
seed; the interval spans the 2.5th to the 97.5th percentile (Efron's percentile method).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omnilmm.evaluation.metrics.base import Measured, Ratio

DRAWS, SEED = 1000, 20_240_131
PERCENTILES = (2.5, 97.5)
SMALL_SCALE = 10  # highest value of ratings, as of MMHal-Bench, that are published with two decimals
_AT_ONCE = 2**22  # random numbers held in memory


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval.

    Attributes:
        name: name in tables.
        value: the figure; None if nothing was counted.
        low, high: its interval.
        units: number of units that were drawn.
        most: the highest possible value.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    units: int
    most: float = 100.0

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.shown(self.value)} ({self.interval})"

    @property
    def interval(self) -> str:
        """The interval in words."""
        return f"{self.shown(self.low)} to {self.shown(self.high)}"

    def shown(self, value: float | None) -> str:
        """Return a value with as many decimals as published figures of its scale have."""
        return "–" if value is None else f"{value:.{2 if self.most <= SMALL_SCALE else 1}f}"


def figure(measured: Measured, scale: float = 1.0) -> Figure:
    """Compute a figure and its interval."""
    value, count, most = _value(measured), _count(measured), measured.most * scale
    if value is None:
        return Figure(measured.name, None, None, None, count, most)
    low, high = np.percentile(draws(measured), PERCENTILES)
    return Figure(measured.name, value * scale, float(low) * scale, float(high) * scale, count, most)


def difference(one: Measured, other: Measured, scale: float = 1.0) -> Figure:
    """Compute the difference of two figures over the same units, drawn together, and its interval."""
    first, second, count, most = _value(one), _value(other), _count(one), one.most * scale
    if first is None or second is None:
        return Figure(one.name, None, None, None, count, most)
    low, high = np.percentile(draws(one) - draws(other), PERCENTILES)
    return Figure(one.name, (first - second) * scale, float(low) * scale, float(high) * scale, count, most)


def draws(measured: Measured) -> Any:
    """Return the figure for each draw [DRAWS]; figures over the same number of units draw the same ones."""
    if isinstance(measured, Ratio):
        return _draws(measured, np.random.default_rng(SEED))
    parts = [part for part in measured.parts if sum(part.out_of)]
    # Each category by a seed of its own, but accuracy and accuracy+ of one category by the same: they share pictures.
    seeds = {name: number for number, name in enumerate(dict.fromkeys(_category(part) for part in parts))}
    return sum(_draws(part, np.random.default_rng([SEED, seeds[_category(part)]])) for part in parts)


def _category(part: Ratio) -> str:
    return part.name.rpartition(" ")[0]


def _draws(ratio: Ratio, random: np.random.Generator) -> Any:
    gained, out_of = np.asarray(ratio.gained, float), np.asarray(ratio.out_of, float)
    count = len(gained)
    step, found = max(_AT_ONCE // max(count, 1), 1), []
    for begin in range(0, DRAWS, step):
        places = random.integers(count, size=(min(step, DRAWS - begin), count))
        found.append(gained[places].sum(1) / np.maximum(out_of[places].sum(1), 1e-12))
    return ratio.scale * np.concatenate(found)


def _value(measured: Measured) -> float | None:
    if isinstance(measured, Ratio):
        return measured.scale * sum(measured.gained) / sum(measured.out_of) if sum(measured.out_of) else None
    values = [value for part in measured.parts if (value := _value(part)) is not None]
    return sum(values) if values else None


def _count(measured: Measured) -> int:
    if isinstance(measured, Ratio):
        return len(measured.gained)
    parts: Sequence[Ratio] = measured.parts
    return len({unit for part in parts for unit in part.units})
