"""A question with its answer, and the subject of possible follow-ups."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from built_in.language import Name
from built_in.scenes import Thing


@dataclass(frozen=True)
class Subject:
    """The single thing a turn was about, its name there, and what has already been said about it.

    `known` is a subset of "shape", "colour", "size", "place", "text", "box".
    """

    name: Name
    thing: Thing
    known: frozenset[str]


@dataclass(frozen=True)
class Turn:
    """A question and its unique right answer.

    Attributes:
        question: the user's question.
        answer: the expected answer.
        ability: ability that the turn counts for in the evaluation.
        subject: thing that a follow-up may be about.
        aspect: aspect that was asked for, if "And the star?" may ask it about another thing.
        picture: index of the picture that the question refers to by number.
    """

    question: str
    answer: str
    ability: str
    subject: Subject | None = None
    aspect: str | None = None
    picture: int | None = None


def about(name: Name, things: Sequence[Thing], *known: str) -> Subject | None:
    """Return the subject of a turn about these things; None unless there is exactly one."""
    return Subject(name, things[0], frozenset(known)) if len(things) == 1 else None


def absent(present: Counter[str], names: Sequence[str], rng: random.Random) -> str | None:
    """Choose one of the names that is not present; None if all are."""
    missing = [name for name in names if not present[name]]
    return rng.choice(missing) if missing else None
