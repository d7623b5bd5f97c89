"""Relaxed accuracy, used for ChartQA."""

from __future__ import annotations

from omnilmm.evaluation.metrics.base import Asked, Mark

MOST_CHANGE = 0.05


def relaxed(asked: Asked, answer: str) -> Mark:
    """Mark 1 for a number within 5 % of a right one, or for the same text regardless of case.

    A per cent sign divides by 100; a right answer of 0 is compared as text. Source: ChartQA (arXiv:2203.10244, 5.1),
    as in `relaxed_correctness` of pix2struct and VLMEvalKit.
    """
    answered = answer.strip()
    return Mark(float(any(_is_near(right, answered) for right in asked.answers)), answered)


def _is_near(right: str, answered: str) -> bool:
    wanted, given = _number(right), _number(answered)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= MOST_CHANGE
    return answered.lower() == right.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
