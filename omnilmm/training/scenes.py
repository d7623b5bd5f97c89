"""Synthetic pictures of which everything is known: a `Scene` is the truth, composed at random.

`drawing.py` turns it into pixels, `labels.py` says what lies in every patch of them, `questions.py` asks about it.

Units: positions and radii are pixels of the picture, x to the right and y down; angles are radians, clockwise on the
screen. `Scene.unit` (square root of the area) is the length that other lengths are fractions of, since the model sees
every picture shrunk to about the same area (112 x 112).
"""

import math
import random
from dataclasses import dataclass

from omnilmm.training.outlines import KINDS
from omnilmm.training.palette import RGB, Background, random_background, shade, visible_colours
from omnilmm.training.printing import Box, Label, random_label

SIZES = ("small", "medium", "large")
# Bounding-circle radius as a fraction of `Scene.unit`. The gaps between the ranges keep the three words true.
_RADIUS = {"small": (0.078, 0.096), "medium": (0.116, 0.145), "large": (0.175, 0.270)}
_GAP = 0.02  # kept free around every thing, as a fraction of `Scene.unit`


@dataclass(frozen=True)
class Shape:
    """One filled shape; all of it lies within the circle of `radius` around (`x`, `y`), in pixels."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float
    rgb: RGB


Thing = Shape | Label


@dataclass(frozen=True)
class Scene:
    """A picture's whole truth.

    `blur` is a radius in pixels, `noise` a standard deviation in grey levels, `jpeg` a quality (0: not compressed),
    `seed` fixes the noise and the cloudy background, so that drawing a scene twice gives the same pixels.
    """

    width: int
    height: int
    background: Background
    shapes: tuple[Shape, ...]
    label: Label | None
    blur: float
    noise: float
    jpeg: int
    seed: int

    @property
    def unit(self) -> float:
        """Square root of the area: the length all sizes are relative to."""
        return math.sqrt(self.width * self.height)

    @property
    def things(self) -> tuple[Thing, ...]:
        """The shapes, and the printed text if there is one."""
        return self.shapes if self.label is None else (*self.shapes, self.label)


def _wanted_shapes(rng: random.Random, colours: list[str], labelled: bool) -> list[tuple[str, str]]:
    """Kinds and colours to place: a mix, or a crowd of one kind, without which high counts would be rare."""
    if rng.random() < 0.32:
        kind, colour = rng.choice(KINDS), rng.choice(colours)
        count = rng.choices(range(2, 7), (10, 20, 22, 24, 26))[0]
        one_colour = rng.random() < 0.5
        wanted = [(kind, colour if one_colour else rng.choice(colours)) for _ in range(count)]
        others = rng.randint(0, max(0, 6 - count))
        return wanted + [(rng.choice(KINDS), rng.choice(colours)) for _ in range(min(others, 2))]
    count = rng.choices(range(7), (20 if labelled else 2, 22, 24, 20, 14, 10, 6))[0]
    # Few colours or kinds among several shapes make "the red one" and "the star" questions worth asking.
    kinds = rng.sample(KINDS, rng.randint(2, len(KINDS)))
    some = rng.sample(colours, min(len(colours), rng.randint(2, 6)))
    return [(rng.choice(kinds), rng.choice(some)) for _ in range(count)]


def _is_free(x: float, y: float, reach: float, shapes: list[Shape], gap: float, box: Box | None) -> bool:
    if any(math.hypot(x - other.x, y - other.y) < reach + other.radius + gap for other in shapes):
        return False
    if box is None:
        return True
    aside = max(box[0] - x, 0.0, x - box[2])
    above = max(box[1] - y, 0.0, y - box[3])
    return math.hypot(aside, above) >= reach + gap


def _place_shapes(
    rng: random.Random, width: int, height: int, wanted: list[tuple[str, str]], box: Box | None
) -> tuple[Shape, ...]:
    """Puts shapes where there is room; one that fits nowhere becomes smaller, and is left out at the last."""
    unit = math.sqrt(width * height)
    weights = {0: (1, 1, 2), 1: (2, 3, 4), 2: (2, 3, 3)}.get(len(wanted), (4, 5, 1))
    shapes: list[Shape] = []
    # Large ones first, since they find room the hardest.
    sizes = sorted((SIZES.index(size) for size in rng.choices(SIZES, weights, k=len(wanted))), reverse=True)
    for (kind, colour), largest in zip(wanted, sizes, strict=True):
        for size in SIZES[largest::-1]:
            reach = unit * rng.uniform(*_RADIUS[size])
            edge = reach + 1
            if 2 * edge >= min(width, height):
                continue
            spots = ((rng.uniform(edge, width - edge), rng.uniform(edge, height - edge)) for _ in range(24))
            spot = next(((x, y) for x, y in spots if _is_free(x, y, reach, shapes, _GAP * unit, box)), None)
            if spot is not None:
                angle = rng.uniform(-0.26, 0.26)
                shapes.append(Shape(kind, colour, size, *spot, reach, angle, shade(colour, rng)))
                break
    return tuple(shapes)


def random_scene(rng: random.Random, held_out: bool = False, label_share: float = 0.38) -> Scene:
    """Draws up a scene of 0 to 6 shapes, about a third of them with a printed word or number.

    Args:
        rng: decides everything.
        held_out: print only texts that `is_held_out` (for evaluation); if false, print none of them.
        label_share: chance to try to print a text; nearly every try succeeds.

    Returns:
        A scene 80 to 400 pixels wide and high, at most 1.7 times as long as wide or as wide as long.
    """
    while True:
        aspect = math.exp(rng.uniform(-0.5, 0.5))  # 0.607 to 1.649
        narrow = math.exp(-abs(math.log(aspect)) / 2)  # the shorter side, in units
        unit = rng.uniform(80 / narrow, 400 * narrow)
        width, height = round(unit * math.sqrt(aspect)), round(unit / math.sqrt(aspect))
        background = random_background(rng, unit)
        colours = visible_colours(background)
        if len(colours) >= 4:
            break
    label = None
    wanted = _wanted_shapes(rng, colours, labelled=False)
    if rng.random() < label_share:
        wanted = _wanted_shapes(rng, colours, labelled=True)
        label = random_label(rng, width, height, background, alone=len(wanted) < 2, held_out=held_out)
    shapes = _place_shapes(rng, width, height, wanted, label.box if label else None)
    return Scene(
        width,
        height,
        background,
        shapes,
        label,
        # Relative to the size: what counts is what is left of it in the shrunk picture.
        blur=rng.uniform(0.2, 0.5) * unit / 112 if rng.random() < 0.25 else 0.0,
        noise=rng.uniform(2, 12) if rng.random() < 0.4 else 0.0,
        jpeg=rng.randint(45, 92) if rng.random() < 0.3 else 0,
        seed=rng.getrandbits(32),
    )
