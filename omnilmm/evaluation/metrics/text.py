"""Exact match and containment, and the letter-by-letter match of the built-in model's card."""

from __future__ import annotations

from omnilmm.evaluation.metrics.base import Asked, Mark

FORMULAS = "Handwritten Mathematical Expression Recognition"  # of OCRBench, where spaces do not count


def exact(asked: Asked, answer: str) -> Mark:
    """Mark 1 if the answer equals one of the right ones, regardless of case and of whitespace around it.

    Source: `process_line(method="accuracy")` of VLMEvalKit, used for OCRVQA and GQA.
    """
    given = answer.strip().lower()
    return Mark(float(any(given == right.strip().lower() for right in asked.answers)), given)


def contains(asked: Asked, answer: str) -> Mark:
    """Mark 1 if the answer contains one of the right ones, regardless of case; line breaks count as spaces.

    For handwritten formulas all spaces are ignored, and case counts. Source: OCRBench (arXiv:2305.07895), as in
    `OCRBench.evaluate` of VLMEvalKit; the benchmark's score is the number of marks, of 1000.
    """
    if asked.category == FORMULAS:
        given = answer.strip().replace("\n", " ").replace(" ", "")
        rights = [right.strip().replace("\n", " ").replace(" ", "") for right in asked.answers]
    else:
        given = answer.lower().strip().replace("\n", " ")
        rights = [right.lower().strip().replace("\n", " ") for right in asked.answers]
    return Mark(float(any(right in given for right in rights)))
