"""Conversations about a scene, true by construction, and the text to train a tokenizer on.

Each ability has many ways to ask and exactly one way to state a fact, so that answers can be scored by exact match.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice

from omnilmm.training.abilities import (
    Subject,
    Turn,
    ask_chat,
    ask_colour,
    ask_count,
    ask_description,
    ask_follow_up,
    ask_place,
    ask_reading,
    ask_shape,
)
from omnilmm.training.facts import Facts
from omnilmm.training.scenes import Scene, random_scene
from omnilmm.training.yes_no import ask_yes_no

_ASKERS: dict[str, Callable[[Facts, random.Random], Turn | None]] = {
    "colour": ask_colour,
    "shape": ask_shape,
    "count": ask_count,
    "yes_no": ask_yes_no,
    "place": ask_place,
    "description": ask_description,
    "reading": ask_reading,
    "chat": ask_chat,
}
ABILITIES = (*_ASKERS, "follow_up")


def _weights(facts: Facts, subject: Subject | None) -> dict[str, float]:
    # Description and reading have one answer per scene and are asked once, so their weight is the chance of that.
    return {
        "colour": 4.6,
        "shape": 3.6,
        "count": 4.5,
        "yes_no": 2.1,
        "place": 5.6,
        "description": 6.0,
        "reading": 12.0 if facts.label is not None else 0.6,
        "follow_up": 9.0 if subject is not None else 0.0,
        "chat": 0.35,
    }


def _any_turn(facts: Facts, rng: random.Random, subject: Subject | None) -> Turn | None:
    weights = _weights(facts, subject)
    ability = rng.choices(list(weights), list(weights.values()))[0]
    if ability == "follow_up":
        return ask_follow_up(facts, rng, subject) if subject is not None else None
    return _ASKERS[ability](facts, rng)


def conversation_about(scene: Scene, rng: random.Random, turns: int = 6) -> list[Turn]:
    """Asks several questions about one picture, with no answer twice while there are others left.

    Args:
        scene: what the picture shows.
        rng: decides what is asked, and how.
        turns: how many questions.

    Returns:
        That many turns, in an order that follow-up questions ("Where is it?") depend on.
    """
    facts = Facts(scene)
    conversation: list[Turn] = []
    tries = 0
    while len(conversation) < turns:
        tries += 1
        turn = _any_turn(facts, rng, conversation[-1].subject if conversation else None)
        said = {earlier.answer for earlier in conversation}
        if turn is not None and (turn.answer not in said or tries >= 20 * turns):
            conversation.append(turn)
    return conversation


def corpus(rng: random.Random, n: int) -> Iterator[str]:
    """Yields n texts, questions and answers by turns, to train a tokenizer on.

    Printed words are spelled with spaces between their characters ("C A T"): reading is one character at a time, and a
    tokenizer that had merged some of them would have to guess where.
    """
    return islice(_texts(rng), n)


def _texts(rng: random.Random) -> Iterator[str]:
    while True:
        scene = random_scene(rng)
        for turn in conversation_about(scene, rng):
            for text in (turn.question, turn.answer):
                yield text if scene.label is None else _spelled(text, scene.label.text)


def _spelled(text: str, printed: str) -> str:
    for mark in ('"{}"', "word {}", "number {}"):  # only where the answer quotes it; "There are 3" stays
        text = text.replace(mark.format(printed), mark.format(" ".join(printed)))
    return text
