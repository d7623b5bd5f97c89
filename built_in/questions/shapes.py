"""Questions about the colour, kind, size and number of shapes."""

from __future__ import annotations

import random

from built_in.facts import Facts
from built_in.language import Language, Name
from built_in.outlines import KINDS
from built_in.palette import COLOURS
from built_in.questions.turn import Turn, about, absent
from built_in.scenes import SIZES, Shape, Thing


def ask_absent(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask about a shape that is not in the picture; the answer says that there is none."""
    if rng.random() < 0.25:
        colour = absent(facts.colours, COLOURS, rng)
        if colour is None or facts.is_printed_in(colour):
            return None
        word = speak.colours[colour]
        return Turn(speak.ask("shape one", rng, colour=word), speak.say("no colour", colour=word), "absent")
    if rng.random() < 0.5 and facts.scene.shapes:
        colour, kind = absent_pair(facts, rng)
        name = Name(kind, colour)
    else:
        missing = absent(facts.kinds, KINDS, rng)
        if missing is None:
            return None
        name = Name(missing)
    one, many = speak.one(name), speak.many(name)
    key = rng.choices(("colour one", "place", "size", "box", "colour many"), (4, 4, 2, 3, 1))[0]
    if key in ("colour one", "colour many") and name.colour:
        key = "place"
    asked = speak.ask(key, rng, name=one, names=many)
    return Turn(asked, speak.say("no name", name=one), "absent")


def absent_pair(facts: Facts, rng: random.Random) -> tuple[str, str]:
    """Choose colour and kind of an absent shape, mostly with a colour, a kind or both that other shapes have."""
    present = facts.scene.shapes
    while True:
        manner = rng.random() if present else 1.0
        colour = rng.choice(present).colour if manner < 0.65 else rng.choice(COLOURS)
        kind = rng.choice(present).kind if manner < 0.35 or 0.65 <= manner < 0.9 else rng.choice(KINDS)
        if not facts.pairs[colour, kind]:
            return colour, kind
        if rng.random() < 0.2:  # all combinations of the present colours and kinds may be present
            colour, kind = rng.choice(COLOURS), rng.choice(KINDS)
            if not facts.pairs[colour, kind]:
                return colour, kind


def state_colour(name: Name, thing: Thing, speak: Language) -> str:
    """State a colour, e.g. "The star is red."."""
    return speak.say("colour one", name=speak.one(name), colour=speak.colours[thing.colour])


def ask_colour(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask for a colour, e.g. "What colour is the star?"."""
    if facts.label is not None and rng.random() < 0.3:
        return _colour_of(Name(facts.label.noun), facts.label, rng, speak)
    if not facts.kinds:
        return None
    kind = rng.choice(sorted(facts.kinds))
    shapes = facts.shapes(kind=kind)
    if len(shapes) == 1:
        return _colour_of(Name(kind), shapes[0], rng, speak)
    shape = rng.choice(shapes)
    if len(facts.shapes(kind=kind, size=shape.size)) == 1:
        return _colour_of(Name(kind, size=shape.size), shape, rng, speak)
    if len({shape.colour for shape in shapes}) > 1:
        return None
    names, colour = speak.many(Name(kind)), speak.colours[shapes[0].colour]
    return Turn(
        speak.ask("colour many", rng, names=names), speak.say("colour many", names=names, colour=colour), "colour"
    )


def _colour_of(name: Name, thing: Thing, rng: random.Random, speak: Language) -> Turn:
    question = speak.ask("colour one", rng, name=speak.one(name))
    subject = about(name, [thing], "shape", "colour")
    return Turn(question, state_colour(name, thing, speak), "colour", subject, "colour")


def state_shape(name: Name, shape: Shape, speak: Language) -> str:
    """State the kind of a shape, e.g. "The red one is a star."."""
    kind = Name(shape.kind)
    return speak.say("shape one", name=speak.one(name), a=speak.some(kind), kind=speak.one(kind))


def ask_shape(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask for the kind of a shape, e.g. "Which shape is red?"."""
    if not facts.colours:
        return None
    colour = rng.choice(sorted(facts.colours))
    shapes = facts.shapes(colour=colour)
    if facts.is_printed_in(colour) or len({shape.kind for shape in shapes}) > 1:
        return None
    word = speak.colours[colour]
    if len(shapes) > 1:
        kinds = speak.many(Name(shapes[0].kind))
        answer = speak.say("shape many", names=speak.many(Name("one", colour)), kinds=kinds)
        return Turn(speak.ask("shape many", rng, colour=word), answer, "shape")
    name = Name("one", colour)
    question = speak.ask("shape one", rng, colour=word)
    return Turn(question, state_shape(name, shapes[0], speak), "shape", about(name, shapes, "shape", "colour"))


def state_size(name: Name, shape: Shape, speak: Language) -> str:
    """State a size, e.g. "The star is small."."""
    return speak.say("size", name=speak.one(name), size=speak.sizes[shape.size])


def ask_size(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask about sizes, e.g. "How large is the star?" or "Which shape is the largest?"."""
    if not facts.scene.shapes:
        return None
    if rng.random() < 0.35:
        return _largest(facts, rng, speak)
    shape = rng.choice(facts.scene.shapes)
    name = facts.name(shape)
    if name is None or name.size is not None:
        return None
    question = speak.ask("size", rng, name=speak.one(name))
    return Turn(question, state_size(name, shape, speak), "size", about(name, [shape], "size"), "size")


def _largest(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    key, ranked = rng.choice((("largest", SIZES[::-1]), ("smallest", SIZES)))
    present = [facts.shapes(size=size) for size in ranked]
    first = next(shapes for shapes in present if shapes)
    if len(first) != 1 or len(facts.scene.shapes) < 2 or facts.scene.labels:
        return None
    name = Name(first[0].kind, first[0].colour)
    if facts.pairs[first[0].colour, first[0].kind] != 1:
        return None
    subject = about(name, first, "shape", "colour")
    return Turn(speak.ask(key, rng), speak.say(key, name=speak.one(name)), "size", subject)


def ask_count(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask for a count, e.g. "How many stars are there?"."""
    is_absent = rng.random() < 0.1 or not facts.kinds
    what = rng.choices(("kind", "colour", "pair", "all"), (8, 5, 4, 3))[0]
    shapes = list(facts.scene.shapes)
    colour: str | None = None
    kind: str | None = "shape"
    if what == "kind":
        # Choose kinds in proportion to their number of shapes, or most answers would be 1.
        kind = absent(facts.kinds, KINDS, rng) if is_absent else rng.choice(shapes).kind
        shapes = facts.shapes(kind=kind)
    elif what == "colour":
        colour = absent(facts.colours, COLOURS, rng) if is_absent else rng.choice(shapes).colour
        shapes = facts.shapes(colour=colour)
    elif what == "pair":
        colour, kind = absent_pair(facts, rng) if is_absent else _pair(rng.choice(shapes))
        shapes = facts.shapes(colour=colour, kind=kind)
    if kind is None or (what == "colour" and colour is None):
        return None
    if len(shapes) == 1 and rng.random() < 0.5:
        return None  # most counts are 1, so drop half of these to balance the answers
    name = Name(kind, colour)
    subject = about(name, shapes, "shape") if kind != "shape" else None
    question = speak.ask("count", rng, names=speak.many(name))
    # After "How many red shapes?", "And the stars?" would be ambiguous.
    return Turn(question, speak.counted(name, len(shapes)), "count", subject, None if name.colour else "count")


def _pair(shape: Shape) -> tuple[str, str]:
    return shape.colour, shape.kind
