"""Yes or no: accuracy, and MME's accuracy+ and score.

Source: MME (arXiv:2306.13394); `YOrN_Extraction` and `MME_rating` of VLMEvalKit.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnilmm.evaluation.metrics.base import Asked, Mark, Marked, Measured, Ratio, Sum
from omnilmm.evaluation.metrics.vqa import without_punctuation

PERCEPTION = ("OCR artwork celebrity color count existence landmark position posters scene").split()
COGNITION = ("code_reasoning commonsense_reasoning numerical_calculation text_translation").split()
UNREADABLE = "says neither yes nor no, or both"


def verdict_in(answer: str) -> str:
    """Return "yes" or "no", whichever alone is among the words of an answer; "" otherwise."""
    words = without_punctuation(answer.lower()).split()
    return ("yes" if "yes" in words else "no") if ("yes" in words) != ("no" in words) else ""


def yes_no(asked: Asked, answer: str) -> Mark:
    """Mark 1 if the answer says yes or no as it should."""
    read = verdict_in(answer)
    right = read != "" and read in (right.strip().lower() for right in asked.answers)
    return Mark(float(right), read, problem="" if read else UNREADABLE)


def accuracies(marked: Marked, name: str = "") -> tuple[Ratio, Ratio]:
    """Return accuracy, and accuracy+: the share of pictures whose questions are all right."""
    pictures: dict[str, list[float]] = {}
    for asked, mark in marked:
        pictures.setdefault(asked.group or asked.index, []).append(mark.credit)
    # Drawn by picture, so that intervals know that two questions belong together.
    hits, counts = [sum(marks) for marks in pictures.values()], [float(len(marks)) for marks in pictures.values()]
    all_right = [float(all(marks)) for marks in pictures.values()]
    before, units = f"{name} " if name else "", list(pictures)
    plus = Ratio(f"{before}accuracy+", all_right, [1.0] * len(all_right), units=units)
    return Ratio(f"{before}accuracy", hits, counts, units=units), plus


def measure(marked: Marked) -> tuple[Measured, ...]:
    """Return accuracy and accuracy+."""
    return accuracies(marked)


def mme(marked: Marked) -> tuple[Measured, ...]:
    """Return MME's scores: the sum over categories of accuracy + accuracy+, for both halves and together.

    A category that a benchmark does not have adds nothing; the total is at most 2800.
    """
    by_category: dict[str, list[tuple[Asked, Mark]]] = {}
    for asked, mark in marked:
        by_category.setdefault(asked.category, []).append((asked, mark))

    def score(name: str, categories: Sequence[str]) -> Sum:
        return Sum(name, tuple(part for one in categories for part in accuracies(by_category[one], one)))

    halves = [
        score(name, [one for one in categories if one in by_category])
        for name, categories in (("perception", PERCEPTION), ("cognition", COGNITION))
    ]
    return score("MME score", list(by_category)), *halves, *accuracies(marked)
