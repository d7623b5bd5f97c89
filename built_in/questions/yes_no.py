"""Questions answered by yes or no, about equally often, followed by the fact."""

from __future__ import annotations

import random

from built_in.facts import Facts
from built_in.language import Language, Name
from built_in.outlines import KINDS
from built_in.palette import COLOURS
from built_in.questions.shapes import absent_pair, state_colour
from built_in.questions.turn import Turn, about, absent
from built_in.scenes import MOST_SHAPES, Shape, Thing


def ask_yes_no(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask a random one of the yes/no questions below."""
    yes = rng.random() < 0.5
    askers = (_is_there_pair, _is_there_kind, _is_there_colour, _is_it_colour, _are_there_so_many, _is_there_text)
    # Most scenes have no text, so the question about text gets a lower weight there, for fewer answers of "no".
    weights = (8, 4, 3, 5, 4, 2 if facts.scene.labels else 1)
    for _ in range(6):  # retry with the same target answer, so that both are about equally frequent
        turn = rng.choices(askers, weights)[0](facts, rng, speak, yes)
        if turn is not None:
            return turn
    return None


def _is_there(name: Name, facts: Facts, rng: random.Random, speak: Language) -> Turn:
    shapes = facts.shapes(kind=name.kind, colour=name.colour)
    gaps = {"a": speak.some(name), "name": speak.one(name)}
    answer = speak.say("yes there" if shapes else "no there", **gaps)
    known = ("shape", "colour") if name.colour else ("shape",)
    return Turn(speak.ask("is there", rng, **gaps), answer, "yes_no", about(name, shapes, *known))


def _is_there_pair(facts: Facts, rng: random.Random, speak: Language, yes: bool) -> Turn | None:
    if not yes:
        colour, kind = absent_pair(facts, rng)
        return _is_there(Name(kind, colour), facts, rng, speak)
    if not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    return _is_there(Name(shape.kind, shape.colour), facts, rng, speak)


def _is_there_kind(facts: Facts, rng: random.Random, speak: Language, yes: bool) -> Turn | None:
    kind = rng.choice(sorted(facts.kinds)) if yes and facts.kinds else absent(facts.kinds, KINDS, rng)
    if kind is None or bool(facts.kinds[kind]) != yes:
        return None
    return _is_there(Name(kind), facts, rng, speak)


def _is_there_colour(facts: Facts, rng: random.Random, speak: Language, yes: bool) -> Turn | None:
    colour = rng.choice(sorted(facts.colours)) if yes and facts.colours else absent(facts.colours, COLOURS, rng)
    if colour is None or bool(facts.colours[colour]) != yes or facts.is_printed_in(colour):
        return None
    word = speak.colours[colour]
    subject = about(Name("one", colour), facts.shapes(colour=colour), "colour")
    answer = speak.say("yes colour" if yes else "no colour there", colour=word)
    return Turn(speak.ask("is there colour", rng, colour=word), answer, "yes_no", subject)


def _is_it_colour(facts: Facts, rng: random.Random, speak: Language, yes: bool) -> Turn | None:
    things: list[Thing] = [facts.label] if facts.label else []
    things += (shape for shape in facts.scene.shapes if facts.kinds[shape.kind] == 1)
    if not things:
        return None
    thing = rng.choice(things)
    name = Name(thing.kind if isinstance(thing, Shape) else thing.noun)
    # A wrong colour is harder to reject if another thing has it.
    nearby = sorted(colour for colour in facts.colours if colour != thing.colour)
    wrong = rng.choice(nearby) if nearby and rng.random() < 0.6 else rng.choice(COLOURS)
    colour = thing.colour if yes else wrong
    if (colour == thing.colour) != yes:
        return None
    question = speak.ask("is it colour", rng, name=speak.one(name), colour=speak.colours[colour])
    fact = state_colour(name, thing, speak)
    answer = speak.say("yes" if yes else "no", fact=fact[0].lower() + fact[1:])
    return Turn(question, answer, "yes_no", about(name, [thing], "shape", "colour"))


def _are_there_so_many(facts: Facts, rng: random.Random, speak: Language, yes: bool) -> Turn | None:
    if not facts.kinds:
        return None
    kind = rng.choice(sorted(facts.kinds))
    count = facts.kinds[kind]
    number = count if yes else max(2, count + rng.choice((-2, -1, 1, 1, 2)))
    if not 2 <= number <= MOST_SHAPES or (number == count) != yes:
        return None
    name = Name(kind)
    question = speak.ask("are there", rng, number=str(number), names=speak.many(name))
    fact = speak.counted(name, count)
    answer = speak.say("yes" if yes else "no", fact=fact[0].lower() + fact[1:])
    return Turn(question, answer, "yes_no", about(name, facts.shapes(kind=kind), "shape"))


def _is_there_text(facts: Facts, rng: random.Random, speak: Language, yes: bool) -> Turn | None:
    if bool(facts.scene.labels) != yes:
        return None
    answer = speak.say("yes text" if yes else "no text there")
    subject = about(Name(facts.label.noun), [facts.label]) if facts.label else None
    return Turn(speak.ask("is there text", rng), answer, "yes_no", subject)
