"""Questions about where a thing is: in the picture, relative to another thing, and as a box."""

from __future__ import annotations

import random
from collections.abc import Sequence

from built_in.facts import OPPOSITE, Facts, box_of
from built_in.language import Language, Name
from built_in.questions.turn import Turn, about
from built_in.scenes import Scene, Shape, Thing

_MOST_BOXES = 5


def state_place(name: Name, place: str, speak: Language) -> str:
    """State the place of a thing, e.g. "The star is at the top."."""
    return speak.say("place", name=speak.one(name), place=speak.places[place])


def ask_place(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask for the place of a thing, e.g. "Where is the star?", or for the thing at a place."""
    if rng.random() < 0.28:
        return _ask_at_place(facts, rng, speak)
    thing: Thing
    if facts.label is not None and rng.random() < 0.25:
        thing, name, known = facts.label, Name(facts.label.noun), ["place"]
    elif facts.scene.shapes:
        thing = rng.choice(facts.scene.shapes)
        own = facts.name(thing)
        if facts.is_only_colour(thing.colour) and rng.random() < 0.25:
            own = Name("one", thing.colour)
        if own is None:
            return None
        name, known = own, ["place", *(["shape"] if own.kind != "one" else []), *(["colour"] if own.colour else [])]
    else:
        return None
    place = facts.place(thing)
    if place is None:
        return None
    question = speak.ask("place", rng, name=speak.one(name))
    return Turn(question, state_place(name, place, speak), "place", about(name, [thing], *known), "place")


def _ask_at_place(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask what is at a place, e.g. "What is at the top left?", if exactly one thing is at or near it."""
    if not facts.scene.things or len(facts.scene.labels) > 1:
        return None
    thing = rng.choice(facts.scene.things)
    place = facts.place(thing)
    if place is None or not facts.is_alone_at_its_place(thing):
        return None
    if isinstance(thing, Shape):
        name, subject = Name(thing.kind, thing.colour), None
    else:
        name = Name(thing.noun)
        subject = about(name, [thing], "place")
    a = speak.some(name)
    word = speak.places[place]
    answer = speak.say("at place", a_capital=a[0].upper() + a[1:], name=speak.one(name), place=word)
    return Turn(speak.ask("at place", rng, place=word), answer, "place", subject)


def ask_beside(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask about relative positions, e.g. "Is the star left of the square?" or "What is above the square?"."""
    if len(facts.scene.shapes) < 2:
        return None
    thing, anchor = rng.sample(facts.scene.shapes, 2)
    sides, anchor_name = facts.sides(thing, anchor), facts.name(anchor)
    if not sides or anchor_name is None:
        return None
    side = rng.choice(sides)
    gaps = {"side": speak.sides[side], "anchor": speak.one(anchor_name), "other side": speak.sides[OPPOSITE[side]]}
    manner = rng.choices(("which", "is", "colour", "what"), (3, 3, 3, 3))[0]
    if manner == "colour":
        alike = facts.shapes(kind=thing.kind)
        if any(other is not thing and facts.is_possibly(other, side, anchor) for other in alike if other is not anchor):
            return None
        gaps["name"] = speak.one(Name(thing.kind))
        answer = speak.say("colour beside", colour=speak.colours[thing.colour], **gaps)
        return Turn(speak.ask("colour beside", rng, **gaps), answer, "beside")
    if manner == "what":
        if any(facts.is_possibly(other, side, anchor) for other in facts.scene.things if other not in (thing, anchor)):
            return None
        name, alike = Name(thing.kind, thing.colour), facts.shapes(kind=thing.kind, colour=thing.colour)
        a = speak.some(name)
        answer = speak.say("what beside", a_capital=a[0].upper() + a[1:], name=speak.one(name), **gaps)
        return Turn(speak.ask("what beside", rng, **gaps), answer, "beside", about(name, alike, "shape", "colour"))
    name_of_thing = facts.name(thing)
    if name_of_thing is None:
        return None
    gaps["name"] = speak.one(name_of_thing)
    fact = speak.say("beside", **gaps)
    if manner == "which":
        return Turn(speak.ask("which side", rng, **gaps), fact, "beside", about(name_of_thing, [thing]))
    asked = side if rng.random() < 0.5 else OPPOSITE[side]
    lower = fact[0].lower() + fact[1:]
    answer = speak.say("yes" if asked == side else "no", fact=lower)
    question = speak.ask("is beside", rng, **(gaps | {"side": speak.sides[asked]}))
    return Turn(question, answer, "beside", about(name_of_thing, [thing]))


def state_boxes(scene: Scene, name: str, things: Sequence[Thing]) -> str:
    """Return name and boxes, e.g. "<ref>red star</ref><box>110 200 340 430</box>"; several are in reading order."""
    ordered = sorted(things, key=lambda thing: (int(thing.y / scene.height * 3), thing.x))
    boxes = "".join("<box>{} {} {} {}</box>".format(*box_of(scene, thing)) for thing in ordered)
    return f"<ref>{name}</ref>{boxes}"


def ask_box(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask for the box of one or several things, e.g. "Mark the star with a box."."""
    if facts.label is not None and rng.random() < 0.15:
        name = Name(facts.label.noun)
        question = speak.ask("box", rng, name=speak.one(name))
        return Turn(question, state_boxes(facts.scene, speak.one(name), [facts.label]), "box")
    if not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    if rng.random() < 0.35:
        name = rng.choice((Name(shape.kind), Name(shape.kind, shape.colour)))
        shapes = facts.shapes(kind=shape.kind, colour=name.colour)
        if not 2 <= len(shapes) <= _MOST_BOXES:
            return None
        question = speak.ask("boxes", rng, names=speak.many(name))
        return Turn(question, state_boxes(facts.scene, speak.one(name), shapes), "box")
    own = facts.name(shape)
    if own is None:
        return None
    known = ["box", "shape", *(["colour"] if own.colour else [])]
    answer = state_boxes(facts.scene, speak.one(own), [shape])
    return Turn(speak.ask("box", rng, name=speak.one(own)), answer, "box", about(own, [shape], *known), "box")
