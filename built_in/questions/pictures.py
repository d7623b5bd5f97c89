"""Questions about two or three pictures."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from built_in.facts import Facts
from built_in.language import Language, Name
from built_in.outlines import KINDS
from built_in.palette import COLOURS
from built_in.questions.turn import Turn

Asker = Callable[[Facts, random.Random, Language], Turn | None]


def ask_compared(pictures: Sequence[Facts], rng: random.Random, speak: Language) -> Turn | None:
    """Ask for a comparison of counts, e.g. "Which picture has more stars?"."""
    kind = rng.choice((*KINDS, "shape"))
    counts = [len(facts.shapes(kind=None if kind == "shape" else kind)) for facts in pictures]
    most = max(counts)
    names = speak.many(Name(kind))
    question = speak.ask("more in" if len(pictures) == 2 else "most in", rng, names=names)
    if counts.count(most) > 1:
        if most == 0 or counts.count(most) < len(pictures) or rng.random() < 0.5:
            return None
        return Turn(question, speak.say("equal"), "pictures")
    return Turn(question, _nth(counts.index(most), speak), "pictures")


def ask_which(pictures: Sequence[Facts], rng: random.Random, speak: Language) -> Turn | None:
    """Ask which picture shows something, e.g. "Which picture shows a red star?"."""
    if rng.random() < 0.15:
        printed = [number for number, facts in enumerate(pictures) if facts.scene.labels]
        if len(printed) > 1:
            return None
        answer = _nth(printed[0], speak) if printed else speak.say("no picture")
        return Turn(speak.ask("which text", rng), answer, "pictures")
    shapes = [shape for facts in pictures for shape in facts.scene.shapes]
    if not shapes or rng.random() < 0.12:
        name = Name(rng.choice(KINDS), rng.choice(COLOURS))
    else:
        shape = rng.choice(shapes)
        name = Name(shape.kind, shape.colour if rng.random() < 0.6 else None)
    there = [number for number, facts in enumerate(pictures) if facts.shapes(kind=name.kind, colour=name.colour)]
    if len(there) > 1:
        return None
    answer = _nth(there[0], speak) if there else speak.say("no picture")
    return Turn(speak.ask("which shows", rng, a=speak.some(name), name=speak.one(name)), answer, "pictures")


def ask_in_one(
    pictures: Sequence[Facts], rng: random.Random, speak: Language, number: int, asker: Asker
) -> Turn | None:
    """Ask about one of the pictures, e.g. "In the second picture: what colour is the star?"."""
    turn = asker(pictures[number], rng, speak)
    if turn is None:
        return None
    nth = speak.ordinals[number]
    gaps = {"nth": nth, "nth_capital": nth[0].upper() + nth[1:], "question": turn.question}
    return replace(turn, question=speak.ask("in picture", rng, **gaps), ability="pictures", picture=number)


def ask_how_many(count: int, rng: random.Random, speak: Language) -> Turn:
    """Ask how many pictures there are."""
    answer = speak.say("one picture") if count == 1 else speak.say("pictures", number=str(count))
    return Turn(speak.ask("how many pictures", rng), answer, "pictures")


def _nth(number: int, speak: Language) -> str:
    nth = speak.ordinals[number]
    return speak.say("nth picture", nth=nth)
