"""Questions that are answered by yes or no, about equally often, and the fact after it."""

import random

from omnilmm.training.abilities import Turn, about, absent, absent_pair
from omnilmm.training.facts import Facts
from omnilmm.training.outlines import KINDS
from omnilmm.training.palette import COLOURS
from omnilmm.training.phrasings import counted, plural, with_article, worded
from omnilmm.training.printing import Label
from omnilmm.training.scenes import Thing


def ask_yes_no(facts: Facts, rng: random.Random) -> Turn | None:
    """One of the questions below."""
    yes = rng.random() < 0.5
    askers = (_is_there_pair, _is_there_kind, _is_there_colour, _is_it_colour, _are_there_so_many, _is_there_text)
    # "No" could be asked of more scenes than "yes", most of which have no text.
    weights = (8, 4, 3, 5, 4, 2 if facts.label is not None else 1)
    for _ in range(6):  # the wish for yes or no stays, so that both are about as frequent
        turn = rng.choices(askers, weights)[0](facts, rng, yes)
        if turn is not None:
            return turn
    return None


def _is_there_pair(facts: Facts, rng: random.Random, yes: bool) -> Turn | None:
    if not yes:
        name = " ".join(absent_pair(facts, rng))
        return Turn(worded("is there", rng, name=with_article(name)), f"No, there is no {name}.", "yes_no")
    if not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    name = f"{shape.colour} {shape.kind}"
    subject = about(name, facts.shapes(colour=shape.colour, kind=shape.kind), "shape", "colour")
    question = worded("is there", rng, name=with_article(name))
    return Turn(question, f"Yes, there is {with_article(name)}.", "yes_no", subject)


def _is_there_kind(facts: Facts, rng: random.Random, yes: bool) -> Turn | None:
    kind = rng.choice(sorted(facts.kinds)) if yes and facts.kinds else absent(facts.kinds, KINDS, rng)
    if kind is None or bool(facts.kinds[kind]) != yes:
        return None
    question = worded("is there", rng, name=with_article(kind))
    answer = f"Yes, there is {with_article(kind)}." if yes else f"No, there is no {kind}."
    return Turn(question, answer, "yes_no", about(kind, facts.shapes(kind=kind), "shape"))


def _is_there_colour(facts: Facts, rng: random.Random, yes: bool) -> Turn | None:
    colour = rng.choice(sorted(facts.colours)) if yes and facts.colours else absent(facts.colours, COLOURS, rng)
    if colour is None or bool(facts.colours[colour]) != yes or facts.is_printed_in(colour):
        return None
    question = worded("is there", rng, name=rng.choice((f"something {colour}", f"anything {colour}")))
    answer = f"Yes, there is something {colour}." if yes else f"No, there is nothing {colour}."
    return Turn(question, answer, "yes_no", about(f"{colour} one", facts.shapes(colour=colour), "colour"))


def _is_it_colour(facts: Facts, rng: random.Random, yes: bool) -> Turn | None:
    things = [thing for thing in facts.scene.things if isinstance(thing, Label) or facts.kinds[thing.kind] == 1]
    if not things:
        return None
    thing: Thing = rng.choice(things)
    name = thing.noun if isinstance(thing, Label) else thing.kind
    # A wrong colour is the harder to deny where something else has it.
    nearby = sorted(colour for colour in facts.colours if colour != thing.colour)
    wrong = rng.choice(nearby) if nearby and rng.random() < 0.6 else rng.choice(COLOURS)
    colour = thing.colour if yes else wrong
    if (colour == thing.colour) != yes:
        return None
    question = worded("is it colour", rng, name=name, colour=colour)
    answer = f"{'Yes' if yes else 'No'}, the {name} is {thing.colour}."
    return Turn(question, answer, "yes_no", about(name, [thing], "shape", "colour"))


def _are_there_so_many(facts: Facts, rng: random.Random, yes: bool) -> Turn | None:
    if not facts.kinds:
        return None
    kind = rng.choice(sorted(facts.kinds))
    count = facts.kinds[kind]
    number = count if yes else max(2, count + rng.choice((-2, -1, 1, 1, 2)))
    if number < 2 or (number == count) != yes:
        return None
    question = worded("are there", rng, number=str(number), names=plural(kind))
    fact = counted(count, kind)
    answer = f"{'Yes' if yes else 'No'}, {fact[0].lower()}{fact[1:]}"
    return Turn(question, answer, "yes_no", about(kind, facts.shapes(kind=kind), "shape"))


def _is_there_text(facts: Facts, rng: random.Random, yes: bool) -> Turn | None:
    if (facts.label is not None) != yes:
        return None
    question = worded("is there text", rng)
    if facts.label is None:
        return Turn(question, "No, there is no text.", "yes_no")
    noun = facts.label.noun
    return Turn(question, f"Yes, there is a {noun}.", "yes_no", about(noun, [facts.label]))
