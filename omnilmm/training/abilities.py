"""One question of each ability about a scene, with the only right answer; none where the scene does not allow it.

A question is only asked where the scene leaves one answer: "What colour is the star?" needs a single star, or stars of
one colour; "Where is it?" needs a turn before that was about one thing. Each function is documented by an example.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from omnilmm.training.facts import Facts, describe
from omnilmm.training.outlines import KINDS
from omnilmm.training.palette import COLOURS
from omnilmm.training.phrasings import counted, plural, with_article, worded
from omnilmm.training.printing import Label
from omnilmm.training.scenes import Thing

CHAT_ANSWER = (
    "I only know simple drawings: shapes, colours, places, how many things there are, and short printed words."
)
NO_TEXT = "I see no text."
# How often to try a question about a thing that is not there. It always works out, while others often do not, so that
# in the end about 8 % of such questions are of this sort.
_ABSENT = 0.035


@dataclass(frozen=True)
class Subject:
    """The one thing a turn was about, as it was named; `known` is what has been said of it.

    That is "shape", "colour" and "place" of a shape, "colour", "place" and "text" of a printed text.
    """

    name: str
    thing: Thing
    known: frozenset[str]


@dataclass(frozen=True)
class Turn:
    """A question and its only right answer.

    `ability` is one of `questions.ABILITIES`, `subject` what a follow-up may be about.
    """

    question: str
    answer: str
    ability: str
    subject: Subject | None = None


def about(name: str, things: Sequence[Thing], *known: str) -> Subject | None:
    """The subject of a turn about these things: there is none if they are several."""
    return Subject(name, things[0], frozenset(known)) if len(things) == 1 else None


def absent(present: Counter[str], names: tuple[str, ...], rng: random.Random) -> str | None:
    """One of the names that nothing has."""
    missing = [name for name in names if not present[name]]
    return rng.choice(missing) if missing else None


def absent_pair(facts: Facts, rng: random.Random) -> tuple[str, str]:
    """Colour and kind of a shape that is not there, mostly one whose colour or kind, or both, are."""
    present = facts.scene.shapes
    while True:
        manner = rng.random() if present else 1.0
        colour = rng.choice(present).colour if manner < 0.65 else rng.choice(COLOURS)
        kind = rng.choice(present).kind if manner < 0.35 or 0.65 <= manner < 0.9 else rng.choice(KINDS)
        if not facts.pairs[colour, kind]:
            return colour, kind
        if rng.random() < 0.2:  # every pair of what is there may be there
            colour, kind = rng.choice(COLOURS), rng.choice(KINDS)
            if not facts.pairs[colour, kind]:
                return colour, kind


def ask_colour(facts: Facts, rng: random.Random) -> Turn | None:
    """What colour is the star?"""
    if rng.random() < _ABSENT:
        kind = absent(facts.kinds, KINDS, rng)
        if kind is None:
            return None
        key, name = ("colour one", kind) if rng.random() < 0.7 else ("colour many", plural(kind))
        return Turn(worded(key, rng, name=name), f"I see no {kind}.", "colour")
    if facts.label is not None and rng.random() < 0.3:
        return _colour_of(facts.label.noun, facts.label, rng)
    if not facts.kinds:
        return None
    kind = rng.choice(sorted(facts.kinds))
    shapes = facts.shapes(kind=kind)
    if len({shape.colour for shape in shapes}) > 1:
        return None
    if len(shapes) == 1:
        return _colour_of(kind, shapes[0], rng)
    answer = f"The {plural(kind)} are {shapes[0].colour}."
    return Turn(worded("colour many", rng, name=plural(kind)), answer, "colour")


def _colour_of(name: str, thing: Thing, rng: random.Random) -> Turn:
    question = worded("colour one", rng, name=name)
    return Turn(question, f"The {name} is {thing.colour}.", "colour", about(name, [thing], "shape", "colour"))


def ask_shape(facts: Facts, rng: random.Random) -> Turn | None:
    """Which shape is red?"""
    if rng.random() < _ABSENT:
        colour = absent(facts.colours, COLOURS, rng)
        if colour is None or facts.is_printed_in(colour):
            return None
        return Turn(worded("shape one", rng, colour=colour), f"I see nothing {colour}.", "shape")
    if not facts.colours:
        return None
    colour = rng.choice(sorted(facts.colours))
    shapes = facts.shapes(colour=colour)
    if facts.is_printed_in(colour) or len({shape.kind for shape in shapes}) > 1:
        return None
    kind = shapes[0].kind
    if len(shapes) > 1:
        return Turn(worded("shape many", rng, colour=colour), f"The {colour} ones are {plural(kind)}.", "shape")
    name = f"{colour} one"
    answer = f"The {name} is {with_article(kind)}."
    return Turn(worded("shape one", rng, colour=colour), answer, "shape", about(name, shapes, "shape", "colour"))


def ask_count(facts: Facts, rng: random.Random) -> Turn | None:
    """How many stars are there?"""
    turn = _any_count(facts, rng)
    if turn is not None and turn.answer.startswith("There is 1 ") and rng.random() < 0.4:
        return None  # one of a sort is what most scenes have; the other numbers are to be learned as well
    return turn


def _any_count(facts: Facts, rng: random.Random) -> Turn | None:
    is_absent = rng.random() < 0.1 or not facts.kinds
    what = rng.choices(("kind", "colour", "pair", "all"), (8, 5, 4, 3))[0]
    if what == "all":
        return Turn(worded("count", rng, names="shapes"), counted(len(facts.scene.shapes), "shape"), "count")
    if what == "kind":
        # Each kind as often as it has shapes: else most answers would be 1.
        kind = absent(facts.kinds, KINDS, rng) if is_absent else rng.choice(facts.scene.shapes).kind
        if kind is None:
            return None
        shapes = facts.shapes(kind=kind)
        question = worded("count", rng, names=plural(kind))
        return Turn(question, counted(len(shapes), kind), "count", about(kind, shapes, "shape"))
    if what == "colour":
        colour = absent(facts.colours, COLOURS, rng) if is_absent else rng.choice(facts.scene.shapes).colour
        if colour is None:
            return None
        shapes = facts.shapes(colour=colour)
        # A printed word is a thing too; only "shapes" leaves it out for certain.
        noun = "shapes" if facts.is_printed_in(colour) else rng.choice(("shapes", "things"))
        question = worded("count", rng, names=f"{colour} {noun}")
        subject = about(f"{colour} one", shapes, "colour") if noun == "things" else None
        return Turn(question, counted(len(shapes), f"{colour} shape"), "count", subject)
    if is_absent:
        colour, kind = absent_pair(facts, rng)
    else:
        shape = rng.choice(facts.scene.shapes)
        colour, kind = shape.colour, shape.kind
    name, shapes = f"{colour} {kind}", facts.shapes(colour=colour, kind=kind)
    question = worded("count", rng, names=plural(name))
    return Turn(question, counted(len(shapes), name), "count", about(name, shapes, "shape", "colour"))


def ask_place(facts: Facts, rng: random.Random) -> Turn | None:
    """Where is the star?"""
    if rng.random() < _ABSENT:
        kind = absent(facts.kinds, KINDS, rng)
        return Turn(worded("place", rng, name=kind), f"I see no {kind}.", "place") if kind else None
    if rng.random() < 0.28:
        return _ask_at_place(facts, rng)
    if facts.label is not None and rng.random() < 0.25:
        place = facts.place(facts.label)
        if place is None:
            return None
        name = facts.label.noun
        question = worded("place", rng, name=name)
        return Turn(question, f"The {name} is {place}.", "place", about(name, [facts.label], "place"))
    if not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    place = facts.place(shape)
    if place is None:
        return None
    if facts.is_only_colour(shape.colour) and rng.random() < 0.25:
        question = worded("place", rng, name=f"{shape.colour} {rng.choice(('thing', 'one', 'shape'))}")
        one = f"{shape.colour} one"
        return Turn(question, f"The {one} is {place}.", "place", about(one, [shape], "colour", "place"))
    own = facts.name(shape)
    if own is None:
        return None
    known = ("shape", "place") if own == shape.kind else ("shape", "colour", "place")
    return Turn(worded("place", rng, name=own), f"The {own} is {place}.", "place", about(own, [shape], *known))


def _ask_at_place(facts: Facts, rng: random.Random) -> Turn | None:
    """What is at the top left? Asked where one thing is for certain, and nothing else nearly is."""
    if not facts.scene.things:
        return None
    thing = rng.choice(facts.scene.things)
    place = facts.place(thing)
    if place is None or not facts.is_alone_at_its_place(thing):
        return None
    if isinstance(thing, Label):
        name, subject = thing.noun, about(thing.noun, [thing], "place")
    else:
        name, subject = f"{thing.colour} {thing.kind}", None
    answer = f"{with_article(name).capitalize()} is {place}."
    return Turn(worded("at place", rng, place=place), answer, "place", subject)


def ask_description(facts: Facts, rng: random.Random) -> Turn:
    """What is in this picture?"""
    subject = None
    if len(facts.scene.things) == 1:
        thing = facts.scene.things[0]
        if isinstance(thing, Label):
            subject = about(thing.noun, [thing], "text")
        else:
            subject = about(thing.kind, [thing], "shape", "colour")
    return Turn(worded("description", rng), describe(facts.scene), "description", subject)


def ask_reading(facts: Facts, rng: random.Random) -> Turn:
    """What does it say?"""
    if facts.label is None:
        key = rng.choices(("reading", "reading word", "reading number"), (3, 1, 1))[0]
        return Turn(worded(key, rng), NO_TEXT, "reading")
    noun = facts.label.noun
    key = "reading" if rng.random() < 0.65 else f"reading {noun}"
    subject = about(noun, [facts.label], "text")
    return Turn(worded(key, rng), f'It says "{facts.label.text}".', "reading", subject)


def ask_follow_up(facts: Facts, rng: random.Random, subject: Subject) -> Turn | None:
    """Where is it? Asks on about the thing of the turn before; the answer names it."""
    thing, name = subject.thing, subject.name
    place = facts.place(thing)
    answers = {"colour": f"The {name} is {thing.colour}."}
    if place is not None:
        answers["place"] = f"The {name} is {place}."
    if isinstance(thing, Label):
        answers["text"] = f'It says "{thing.text}".'
    else:
        answers["shape"] = f"The {name} is {with_article(thing.kind)}."
    unknown = [aspect for aspect in answers if aspect not in subject.known]
    if not unknown:
        return None
    aspect = rng.choice(unknown)
    asked_on = replace(subject, known=subject.known | {aspect})
    return Turn(worded(f"its {aspect}", rng), answers[aspect], "follow_up", asked_on)


def ask_chat(facts: Facts, rng: random.Random) -> Turn:
    """Hello!"""
    return Turn(worded("chat", rng), CHAT_ANSWER, "chat")
