"""Multiple choice, plain and circular.

Source: `can_infer` and `mcq_circular_eval` of VLMEvalKit, without a judge model ("exact_matching"), as they were when
the figures of these models were published. Since 2025-08 it reads a letter only among the last words of an answer, and
the text of an option only in a short answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from omnilmm.evaluation.metrics.base import Asked, Mark, Marked, Measured, Ratio

CIRCLE = 1_000_000  # of MMBench: the index of the n-th rotation is the first one's plus n · 10^6
REFUSED = "Z"  # the letter for an answer that takes none of the options
UNREADABLE, NONE_TAKEN = "names no single option", "takes none of the options, or refuses"
_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def letter_of(answer: str, options: Mapping[str, str]) -> str:
    """Return the letter of the option that an answer takes, `REFUSED`, or "" if that is unclear.

    The answer takes an option if its letter stands in it as a word and no other option's does; otherwise if the text
    of exactly one option is in it.
    """
    if any(refusal in answer for refusal in _REFUSALS):
        return REFUSED
    words = answer.translate(_SEPARATORS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    text = answer.lower()
    matching = [letter for letter, option in options.items() if option.lower() in text]
    return matching[0] if len(matching) == 1 else ""


def choice(asked: Asked, answer: str) -> Mark:
    """Mark 1 if the answer takes the right option; one that takes none has a problem, too."""
    letter = letter_of(answer, asked.options)
    problem = {"": UNREADABLE, REFUSED: NONE_TAKEN}.get(letter, "") if letter not in asked.options else ""
    return Mark(float(letter != "" and letter in asked.answers), letter, problem=problem)


def circular(marked: Marked) -> tuple[Measured, ...]:
    """Return the accuracy over groups of rotated options, of which all must be right, and that over all rows."""
    groups: dict[str, list[float]] = {}
    for asked, mark in marked:
        groups.setdefault(asked.group or asked.index, []).append(mark.credit)
    right = [float(all(marks)) for marks in groups.values()]
    plain = [mark.credit for _, mark in marked]
    return (
        Ratio("circular accuracy", right, [1.0] * len(right), units=list(groups)),
        Ratio("accuracy of all rotations", plain, [1.0] * len(plain), units=[asked.index for asked, _ in marked]),
    )


def circle_of(index: str) -> str:
    """Return the index of the first rotation of a question, for integer indices as in MMBench."""
    return str(int(index) % CIRCLE) if index.isdecimal() else index
