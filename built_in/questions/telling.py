"""Descriptions, reading, follow-up questions and small talk."""

from __future__ import annotations

import random
from dataclasses import replace

from built_in.facts import Facts, reading_order
from built_in.language import Language, Name
from built_in.questions.places import state_boxes, state_place
from built_in.questions.shapes import state_colour, state_shape, state_size
from built_in.questions.turn import Subject, Turn, about
from built_in.scenes import Shape


def ask_description(facts: Facts, rng: random.Random, speak: Language) -> Turn:
    """Ask for a description, e.g. "What is in this picture?"."""
    subject = None
    things = facts.scene.things
    if len(things) == 1:
        thing = things[0]
        is_shape = isinstance(thing, Shape)
        known = ("shape", "colour") if is_shape else ("text",)
        subject = about(Name(thing.kind if isinstance(thing, Shape) else thing.noun), [thing], *known)
    return Turn(speak.ask("description", rng), describe(facts, speak), "description", subject)


def describe(facts: Facts, speak: Language) -> str:
    """Describe a scene in one sentence, in reading order; equal shapes are counted together."""
    parts: dict[str, None] = {}  # an ordered set, as equal shapes are counted together
    for thing in reading_order(facts.scene):
        if isinstance(thing, Shape):
            parts[speak.some(Name(thing.kind, thing.colour), facts.pairs[thing.colour, thing.kind])] = None
        else:
            noun = speak.kinds[thing.noun]
            parts[speak.say("print", noun=noun, text=speak.quoted(thing.text))] = None
    return speak.say("description", things=speak.joined(list(parts))) if parts else speak.say("nothing")


def ask_reading(facts: Facts, rng: random.Random, speak: Language) -> Turn:
    """Ask for the printed text, e.g. "What does it say?"."""
    labels = facts.scene.labels
    if not labels:
        key = rng.choices(("reading", "reading noun"), (3, 1))[0]
        noun = speak.kinds[rng.choice(("word", "number"))]
        return Turn(speak.ask(key, rng, noun=noun), speak.say("no text"), "reading")
    answer = speak.say("reading", text=speak.joined([speak.quoted(label.text) for label in labels]))
    if facts.label is None:
        return Turn(speak.ask("reading", rng), answer, "lines")
    noun = "sign" if facts.scene.panels and rng.random() < 0.5 else facts.label.noun
    key = "reading" if rng.random() < 0.6 else "reading noun"
    question = speak.ask(key, rng, noun=speak.kinds[noun])
    return Turn(question, answer, "reading", about(Name(facts.label.noun), [facts.label], "text"))


def ask_line(facts: Facts, rng: random.Random, speak: Language) -> Turn | None:
    """Ask for one line of several, e.g. "What does the second line say?"."""
    labels = facts.scene.labels
    if len(labels) < 2:
        return None
    manner = rng.random()
    if manner < 0.12:
        return Turn(speak.ask("how many lines", rng), speak.say("lines", number=str(len(labels))), "lines")
    number = rng.randrange(len(labels))
    text = speak.quoted(labels[number].text)
    if number == len(labels) - 1 and manner < 0.4:
        return Turn(speak.ask("last line", rng), speak.say("last line", text=text), "lines")
    nth = speak.ordinals[number]
    question = speak.ask("line", rng, nth=nth, number=str(number + 1))
    return Turn(question, speak.say("line", nth=nth, text=text), "lines")


def ask_follow_up(facts: Facts, rng: random.Random, speak: Language, subject: Subject) -> Turn | None:
    """Ask a follow-up about the thing of the previous turn, e.g. "Where is it?"; the answer names it."""
    thing, name = subject.thing, subject.name
    place = facts.place(thing)
    answers = {"colour": state_colour(name, thing, speak), "box": state_boxes(facts.scene, speak.one(name), [thing])}
    if place is not None:
        answers["place"] = state_place(name, place, speak)
    if isinstance(thing, Shape):
        answers["shape"] = state_shape(name, thing, speak)
        answers["size"] = state_size(name, thing, speak)
    else:
        answers["text"] = speak.say("reading", text=speak.quoted(thing.text))
    mentioned = subject.known | {word for word in ("colour", "size") if getattr(name, word)}
    if name.kind != "one":
        mentioned |= {"shape"}
    unknown = [aspect for aspect in answers if aspect not in mentioned]
    if not unknown:
        return None
    aspect = rng.choice(unknown)
    asked_on = replace(subject, known=subject.known | {aspect})
    return Turn(speak.ask(f"its {aspect}", rng), answers[aspect], "follow_up", asked_on, aspect)


def ask_same(facts: Facts, rng: random.Random, speak: Language, turn: Turn) -> Turn | None:
    """Ask the previous question about another shape, e.g. "And the square?"."""
    if turn.aspect not in ("colour", "place", "size", "count", "box") or not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    if turn.subject and turn.subject.thing is shape:
        return None
    if turn.aspect == "count":
        kind = Name(shape.kind)
        counted = speak.counted(kind, facts.kinds[shape.kind])
        return Turn(speak.ask("and the", rng, name=speak.many(kind)), counted, "follow_up", None, "count")
    name, place = facts.name(shape), facts.place(shape)
    if name is None or (turn.aspect == "place" and place is None):
        return None
    if (turn.aspect == "colour" and name.colour) or (turn.aspect == "size" and name.size):
        return None  # the name would contain the answer
    answers = {
        "colour": state_colour(name, shape, speak),
        "place": state_place(name, place or "", speak) if place else "",
        "size": state_size(name, shape, speak),
        "box": state_boxes(facts.scene, speak.one(name), [shape]),
    }
    subject = about(name, [shape], turn.aspect, "shape")
    return Turn(
        speak.ask("and the", rng, name=speak.one(name)), answers[turn.aspect], "follow_up", subject, turn.aspect
    )


def ask_chat(rng: random.Random, speak: Language) -> Turn:
    """Make small talk, e.g. "Hello!"."""
    question, answer = speak.small_talk(rng)
    return Turn(question, answer, "chat")
