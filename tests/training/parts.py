"""A task that the built-in model does not know: the part number of a thing. Also its old abilities, as data files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from itertools import count as counter
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from built_in.drawing import draw
from built_in.lessons import lesson_of
from built_in.palette import Background, shade
from built_in.questions.turn import Turn
from built_in.scenes import Scene, Shape

QUESTION = "Which part is this?"
LETTERS = {"circle": "K", "square": "T", "triangle": "W", "star": "H"}
DIGITS = {"red": "7", "green": "2", "blue": "9", "yellow": "4"}
SIDE = 96
UNSLICED = 168 * 168  # pixels of the largest picture that the built-in model does not slice


def part(rng: random.Random) -> tuple[Image.Image, str]:
    """A picture of one thing, and its number: a letter for the shape, a digit for the colour."""
    kind, colour = rng.choice([*LETTERS]), rng.choice([*DIGITS])
    radius = rng.uniform(0.19, 0.26) * SIDE
    x, y = (rng.uniform(radius, SIDE - radius) for _ in range(2))
    dark = (rng.randint(40, 60),) * 3
    shape = Shape(kind, colour, "large", x, y, radius, rng.uniform(-0.2, 0.2), shade(colour, rng))
    plain = Background("plain", dark, dark, 0.0, 10.0)
    return draw(
        Scene(SIDE, SIDE, plain, shapes=(shape,), seed=rng.randrange(2**31))
    ), f"{LETTERS[kind]}{DIGITS[colour]}."


def write_parts(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write pictures and a data file in the published form."""
    rng, rows = random.Random(seed), []
    for number in range(count):
        image, answer = part(rng)
        image.save(folder / f"{name}-{number}.png")
        said = [("user", f"<image>\n{QUESTION}"), ("assistant", answer)]
        rows.append(_row(f"{name}-{number}.png", said))
    return _written(folder / f"{name}.json", rows)


def write_old(folder: Path, name: str, count: int, seed: int, abilities: Iterable[str]) -> Path:
    """Write questions that the built-in model answers, `count` rows of each ability, which is their group."""
    rows = []
    for ability in abilities:
        for number, image, turn in islice(_questions(seed, ability), count):
            picture = f"{name}-{ability}-{number}.png"
            image.save(folder / picture)
            rows.append(_row(picture, [("user", turn.question), ("assistant", turn.answer)]) | {"group": ability})
    return _written(folder / f"{name}.json", rows)


def _questions(seed: int, ability: str) -> Iterator[tuple[int, Image.Image, Turn]]:
    """Yield two questions about every picture, each to be asked by itself; pictures too small to be sliced."""
    for number in counter():
        lesson = lesson_of("scene", random.Random(f"{seed}/{ability}/{number}"), only=ability)
        image = lesson.pictures[0].image
        if image.width * image.height <= UNSLICED:
            yield from ((number, image, turn) for turn in lesson.turns[:2])


def _row(picture: str, said: list[tuple[str, str]]) -> dict[str, Any]:
    return {"image": picture, "conversations": [{"role": role, "content": text} for role, text in said]}


def _written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path
