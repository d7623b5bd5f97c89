"""Lessons: pictures with a conversation about them, the training data of the built-in model.

A lesson depends only on its random numbers. Training mixes the kinds of lessons (`MIXTURES`); the evaluation tests one
ability at a time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from built_in.charts import random_chart, random_table
from built_in.drawing import draw
from built_in.facts import Facts
from built_in.language import CODES, Language, language
from built_in.photos import random_photo
from built_in.questions.charts import ask_chart, ask_table
from built_in.questions.pictures import Asker, ask_compared, ask_how_many, ask_in_one, ask_which
from built_in.questions.places import ask_beside, ask_box, ask_place
from built_in.questions.shapes import ask_absent, ask_colour, ask_count, ask_shape, ask_size
from built_in.questions.telling import ask_chat, ask_description, ask_follow_up, ask_line, ask_reading, ask_same
from built_in.questions.turn import Turn
from built_in.questions.yes_no import ask_yes_no
from built_in.scenes import Scene, TextLayout, random_scene, random_size

ASKERS: dict[str, Asker] = {
    "colour": ask_colour,
    "shape": ask_shape,
    "size": ask_size,
    "count": ask_count,
    "place": ask_place,
    "beside": ask_beside,
    "yes_no": ask_yes_no,
    "box": ask_box,
    "absent": ask_absent,
    "description": ask_description,
    "reading": ask_reading,
    "lines": ask_line,
}
# Sampling weights; questions that are often impossible or slow to learn have higher ones.
_WEIGHTS = {
    "colour": 4.0,
    "shape": 3.2,
    "size": 3.0,
    "count": 4.5,
    "place": 5.0,
    "beside": 7.0,
    "yes_no": 2.1,
    "box": 5.0,
    "absent": 0.9,
    "description": 6.0,
    "reading": 12.0,
    "lines": 16.0,
}
# Sorts of lessons, each of about the same length, so that a batch of one sort needs little padding, and their shares:
# a picture with ten views costs as much as several pictures with one.
Sort = Literal["short", "long", "sliced"]
SHARES: dict[Sort, float] = {"short": 0.72, "long": 0.2, "sliced": 0.08}
# Kinds of lessons and their weights, for one unsliced picture, several unsliced pictures, and sliced pictures.
MIXTURES: dict[Sort, dict[str, float]] = {
    "short": {"scene": 52, "chart": 11, "table": 10, "photo": 3, "talk": 2},
    "long": {"pictures": 12, "series": 12},
    "sliced": {"scene": 46, "page": 23, "chart": 9, "table": 6, "pictures": 6, "series": 8, "photo": 2},
}
_QUOTED = re.compile('(?<=["“])[A-Z0-9]+(?=["”])')
_SMALL_SHARE = 0.68  # share of held-out pictures that are not sliced
_LANGUAGE_CHANGES = 0.05  # probability of choosing the language anew before a question


@dataclass(frozen=True)
class Drawn:
    """A picture and its scene; None for a picture without labels."""

    image: Image.Image
    scene: Scene | None


@dataclass(frozen=True)
class Lesson:
    """A conversation about pictures.

    `given[n]` is the number of pictures, in order, that are sent with turn n.
    """

    pictures: tuple[Drawn, ...]
    turns: tuple[Turn, ...]
    given: tuple[int, ...]


def random_sort(rng: random.Random) -> Sort:
    """Choose a sort of lesson according to SHARES."""
    return rng.choices(list(SHARES), list(SHARES.values()))[0]


def random_lesson(rng: random.Random, sort: Sort) -> Lesson:
    """Generate a training lesson of a sort; `rng` decides everything else."""
    mixture = MIXTURES[sort]
    kind = rng.choices(list(mixture), list(mixture.values()))[0]
    return _TEACHERS[kind](rng, None, False, 0.0 if sort == "sliced" else 1.0)


def lesson_of(kind: str, rng: random.Random, *, only: str | None = None) -> Lesson:
    """Generate an evaluation lesson of one kind, with printed words and long numbers that training never uses.

    Args:
        kind: kind of lesson, one of those in MIXTURES.
        rng: decides everything else.
        only: for scenes, the only ability to ask for; for several pictures, send them "together" or "in turn".
    """
    return _TEACHERS[kind](rng, only, True, _SMALL_SHARE)


def _languages(rng: random.Random) -> Iterator[Language]:
    """Yield the language of each question."""
    code = rng.choice(CODES)
    while True:
        yield language(code)
        if rng.random() < _LANGUAGE_CHANGES:
            code = rng.choice(CODES)


def _scene(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    text: TextLayout | None = None
    if only in ("reading", "lines"):
        text = rng.choice(("label", "label", "label", "sign")) if only == "reading" else "lines"
    least = {"beside": 2, "colour": 1, "follow_up": 1, "box": 1, "size": 1, "shape": 1, "place": 1}.get(only or "", 0)
    size = random_size(rng, small)
    scene = random_scene(rng, held_out=held_out, text=text, size=size, least_shapes=least)
    turns = 7 if scene.unit <= 170 else 4
    return _with_pictures([scene], conversation(Facts(scene), rng, turns, only))


def _page(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    scene = random_scene(rng, held_out=held_out, text="small print")
    facts, speak = Facts(scene), _languages(rng)

    def any_turn(_: list[Turn]) -> Turn | None:
        if len(scene.labels) > 1 and rng.random() < 0.7:
            turn = ask_line(facts, rng, next(speak))
        elif rng.random() < 0.8:
            turn = ask_reading(facts, rng, next(speak))
        else:
            return ask_description(facts, rng, next(speak))
        return replace(turn, ability="small print") if turn and _QUOTED.search(turn.answer) else turn

    return _with_pictures([scene], _talk(3, any_turn))


def _chart(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    chart, speak = random_chart(rng, held_out=held_out, small=small), _languages(rng)
    turns = 6 if chart.scene.unit <= 170 else 4
    return _with_pictures([chart.scene], _talk(turns, lambda _: ask_chart(chart, rng, next(speak))))


def _table(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    table, speak = random_table(rng, held_out=held_out, small=small), _languages(rng)
    turns = 5 if table.scene.unit <= 170 else 4
    return _with_pictures([table.scene], _talk(turns, lambda _: ask_table(table, rng, next(speak))))


def _pictures(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    count = rng.choice((2, 2, 3))
    scenes = [random_scene(rng, held_out=held_out, size=random_size(rng, small)) for _ in range(count)]
    facts, speak = [Facts(scene) for scene in scenes], _languages(rng)
    # All pictures with the first question, or one with each question.
    together = only == "together" or (only is None and rng.random() < 0.6)
    given = [count] if together else [1] * count
    first_abilities = [name for name in _WEIGHTS if name not in ("absent", "description")]

    def any_turn(before: list[Turn]) -> Turn | None:
        shown = facts[: sum(given[: len(before) + 1])]
        if len(shown) == 1:
            return (
                ask_how_many(1, rng, next(speak))
                if rng.random() < 0.03
                else _any_turn(shown[0], rng, next(speak), before)
            )
        manner = rng.choices(("compared", "which", "one", "how many"), (4, 4, 5, 0.5))[0]
        if manner == "compared":
            return ask_compared(shown, rng, next(speak))
        if manner == "which":
            return ask_which(shown, rng, next(speak))
        if manner == "how many":
            return ask_how_many(len(shown), rng, next(speak))
        asker = ASKERS[rng.choices(first_abilities, [_WEIGHTS[name] for name in first_abilities])[0]]
        return ask_in_one(shown, rng, next(speak), rng.randrange(len(shown)), asker)

    turns = _talk(max(5, count + 2), any_turn)
    return _with_pictures(scenes, turns, given)


def _series(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    """Generate a series of pictures: questions that do not name a picture are about the latest one."""
    speak, turns, given, scenes = _languages(rng), list[Turn](), list[int](), list[Scene]()

    def talk_about(facts: Facts) -> list[Turn]:
        return _talk(rng.choice((1, 1, 2)), lambda before: _any_turn(facts, rng, next(speak), before))

    for _ in range(rng.randint(2, 6 if small == 1.0 else 3)):
        scene = random_scene(rng, held_out=held_out, size=random_size(rng, small))
        about_it = talk_about(Facts(scene))
        if about_it:
            scenes.append(scene)
            turns += about_it
            given += [1, *[0] * (len(about_it) - 1)]
    return _with_pictures(scenes, turns, given)


def _photo(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    """Generate a lesson about a photo: every question gets the same answer, as it is not a drawing."""
    decoy, speak = Facts(random_scene(rng, text="label", least_shapes=2)), next(_languages(rng))
    answer = speak.say("photo")

    def any_turn(_: list[Turn]) -> Turn | None:
        asker = ask_description if rng.random() < 0.4 else ASKERS[rng.choice(list(ASKERS))]
        turn = asker(decoy, rng, speak)
        return Turn(turn.question, answer, "photo") if turn else None

    size = random_size(rng, small)
    photo = Drawn(random_photo(rng, size), None)
    return Lesson((photo,), tuple(_talk(3, any_turn, repeats=True)), (1, 0, 0))


def _small_talk(rng: random.Random, only: str | None, held_out: bool, small: float) -> Lesson:
    """Generate a lesson without pictures: small talk, and questions that would need a picture."""
    decoy, speak = Facts(random_scene(rng, text="label", least_shapes=2)), _languages(rng)

    def any_turn(_: list[Turn]) -> Turn | None:
        now = next(speak)
        if rng.random() < 0.7:
            return ask_chat(rng, now)
        turn = ASKERS[rng.choice(list(ASKERS))](decoy, rng, now)
        return Turn(turn.question, now.say("give picture"), "chat") if turn else None

    turns = tuple(_talk(5, any_turn, repeats=True))
    return Lesson((), turns, (0,) * len(turns))


_TEACHERS: dict[str, Callable[[random.Random, str | None, bool, float], Lesson]] = {
    "scene": _scene,
    "page": _page,
    "chart": _chart,
    "table": _table,
    "pictures": _pictures,
    "series": _series,
    "photo": _photo,
    "talk": _small_talk,
}


def _with_pictures(scenes: Sequence[Scene], turns: list[Turn], given: Sequence[int] = (1,)) -> Lesson:
    given = [*given, *[0] * (len(turns) - len(given))][: len(turns)]
    return Lesson(tuple(Drawn(draw(scene), scene) for scene in scenes), tuple(turns), tuple(given))


def conversation(facts: Facts, rng: random.Random, turns: int, only: str | None = None) -> list[Turn]:
    """Generate questions about one scene; follow-ups ("Where is it?") depend on their order."""
    speak = _languages(rng)
    return _talk(turns, lambda before: _any_turn(facts, rng, next(speak), before, only))


def _any_turn(
    facts: Facts, rng: random.Random, speak: Language, before: list[Turn], only: str | None = None
) -> Turn | None:
    last = before[-1] if before else None
    if last is not None and (only == "follow_up" or (only is None and rng.random() < 0.22)):
        if rng.random() < 0.3:
            return ask_same(facts, rng, speak, last)
        if last.subject is not None:
            return ask_follow_up(facts, rng, speak, last.subject)
    if only is None and rng.random() < 0.012:
        return ask_chat(rng, speak)
    weights = _WEIGHTS | ({"reading": 0.6, "lines": 0.0} if not facts.scene.labels else {})
    if only == "follow_up":
        weights = {"colour": 1, "shape": 1, "place": 1, "size": 1, "yes_no": 0.5}
    ability = only if only in ASKERS else rng.choices(list(weights), list(weights.values()))[0]
    return ASKERS[ability](facts, rng, speak)


def _talk(turns: int, any_turn: Callable[[list[Turn]], Turn | None], repeats: bool = False) -> list[Turn]:
    """Collect up to `turns` turns, without repeated answers unless `repeats`; fewer if no more can be asked."""
    before: list[Turn] = []
    for _ in range(24 * turns):
        turn = any_turn(before)
        known = {earlier.answer for earlier in before}
        if turn is not None and (repeats or turn.answer not in known):
            before.append(turn)
        if len(before) == turns:
            break
    return before


def corpus(rng: random.Random, lessons: int) -> Iterator[str]:
    """Yield fragments of questions and answers, for training a tokenizer.

    Printed text is left out: the model reads it character by character, so its characters must not be merged to tokens.
    """
    for _ in range(lessons):
        for turn in random_lesson(rng, random_sort(rng)).turns:
            yield from _QUOTED.split(f"{turn.question}\n{turn.answer}")
