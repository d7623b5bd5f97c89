"""Figures and their intervals: against numpy's mean, against the theory, and paired."""

from __future__ import annotations

import random

import numpy as np
import pytest

from omnilmm.evaluation.figures import difference, figure
from omnilmm.evaluation.metrics.base import Ratio, Sum


def ratio(values: list[float], name: str = "accuracy") -> Ratio:
    return Ratio(name, values, [1.0] * len(values), units=[str(number) for number in range(len(values))])


CHANCE = random.Random(3)
MARKS = [float(CHANCE.random() < 0.7) for _ in range(400)]


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    found = figure(ratio(MARKS), scale=2)
    share = float(np.mean(MARKS))
    half = 1.96 * (share * (1 - share) / len(MARKS)) ** 0.5
    assert found.value == pytest.approx(200 * share) and found.units == 400
    assert found.low == pytest.approx(200 * (share - half), abs=1) and found.high == pytest.approx(
        200 * (share + half), abs=1
    )
    assert figure(ratio(MARKS), scale=2) == found  # the seed is fixed


def test_a_ratio_is_weighted_and_nothing_has_no_figure() -> None:
    found = figure(Ratio("CHAIRi", [1, 0, 2], [2, 4, 2]))
    assert found.value == pytest.approx(100 * 3 / 8)
    assert str(figure(Ratio("none", [], []))) == "–" and figure(Ratio("none", [0], [0])).low is None


def test_a_sum_draws_accuracy_and_accuracy_plus_of_a_category_together() -> None:
    plus = [float(one and other) for one, other in zip(MARKS[::2], MARKS[1::2], strict=True)]
    pairs = [one + other for one, other in zip(MARKS[::2], MARKS[1::2], strict=True)]
    parts = (Ratio("OCR accuracy", pairs, [2.0] * 200), Ratio("OCR accuracy+", plus, [1.0] * 200))
    found = figure(Sum("score", parts))
    assert found.value == pytest.approx(sum(figure(part).value or 0 for part in parts))
    apart = [figure(part) for part in parts]
    spans = [(one.high or 0) - (one.low or 0) for one in apart]
    # Both rise and fall with the same pictures: the spans add up, while those of independent ones would not.
    assert (found.high or 0) - (found.low or 0) == pytest.approx(sum(spans), rel=0.06)


def test_differences_are_paired() -> None:
    better = [*MARKS]
    for place in range(0, 400, 20):
        better[place] = 1.0
    found = difference(ratio(better), ratio(MARKS))
    assert found.value == pytest.approx(100 * (np.mean(better) - np.mean(MARKS)))
    assert found.low is not None and found.high is not None
    assert 0 < found.low < found.value < found.high < 4  # unpaired it would span 0
    same = difference(ratio(MARKS), ratio(MARKS))
    assert (same.value, same.low, same.high) == (0, 0, 0)
