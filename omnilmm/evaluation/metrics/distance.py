"""Edit distance: ANLS, used for DocVQA and InfoVQA, and the character error rate."""

from __future__ import annotations

from collections.abc import Sequence

from omnilmm.evaluation.metrics.base import Asked, Mark

LEAST_SIMILARITY = 0.5


def edits(one: str, other: str) -> int:
    """Return the Levenshtein distance: insertions, deletions and replacements of characters."""
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, 1):
        corner, row[0] = row[0], number
        for place, opposite in enumerate(other, 1):
            corner, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, corner + (character != opposite))
    return row[-1]


def anls(asked: Asked, answer: str) -> Mark:
    """Mark by the normalised Levenshtein similarity to the nearest right answer; 0 below one half.

    Similarity is 1 − edits / length of the longer one. Edits are counted in lower case with single spaces, lengths, as
    in the published code, of the texts as they are. Source: ST-VQA (arXiv:1905.13648), as in `anls_compute` and
    `hit_calculate` of VLMEvalKit.
    """
    given = " ".join(answer.lower().split())
    best = 0.0
    for right in asked.answers:
        wanted = " ".join(right.lower().split())
        longer = max(len(answer.upper()), len(right.upper()))
        best = max(best, 1 - edits(wanted, given) / longer if longer else 1.0)
    return Mark(best if best >= LEAST_SIMILARITY else 0.0, given)


def character_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the character error rate of (true, given) texts: edits per true character."""
    return sum(edits(true, given) for true, given in pairs) / max(sum(len(true) for true, _ in pairs), 1)
