"""A question with its answer, and what a question may be about next."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from built_in.language import Name
from built_in.scenes import Thing


@dataclass(frozen=True)
class Subject:
    """The one thing a turn was about, as it was named, and all that has been said of it.

    `known` holds "shape", "colour", "size", "place", "text", "box".
    """

    name: Name
    thing: Thing
    known: frozenset[str]


@dataclass(frozen=True)
class Turn:
    """A question and its only right answer.

    Attributes:
        question: what the user types.
        answer: what the model should say.
        ability: the row of the evaluation's table that it counts for.
        subject: what a follow-up may be about.
        aspect: what was asked of the subject, where "And the star?" may ask it of another.
        picture: number of the one picture in the conversation that it asks about by number.
    """

    question: str
    answer: str
    ability: str
    subject: Subject | None = None
    aspect: str | None = None
    picture: int | None = None


def about(name: Name, things: Sequence[Thing], *known: str) -> Subject | None:
    """The subject of a turn about these things: there is none if they are several."""
    return Subject(name, things[0], frozenset(known)) if len(things) == 1 else None


def absent(present: Counter[str], names: Sequence[str], rng: random.Random) -> str | None:
    """One of the names that nothing has."""
    missing = [name for name in names if not present[name]]
    return rng.choice(missing) if missing else None
