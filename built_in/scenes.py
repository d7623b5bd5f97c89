"""Random synthetic pictures with full ground truth: a `Scene` describes everything in a picture.

`drawing.py` renders it to pixels, `labels.py` labels every patch, `questions/` ask about it. Charts and tables
(`charts.py`) are scenes too: their bars are panels, their words are labels.

Units: positions and radii are pixels of the picture, x to the right and y down; angles are radians, clockwise on the
screen. Other lengths are fractions of `Scene.unit` (square root of the area), since the overview shows every picture at
about the same area.
"""

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

from built_in.outlines import KINDS, outline
from built_in.palette import RGB, Background, random_background, shade, visible_colours
from built_in.printing import Box, Label, around, printable_text, text_block

SIZES = ("small", "medium", "large")
MOST_SHAPES = 9
# Radius of the bounding circle as a fraction of `Scene.unit`. The gaps between the ranges keep the sizes unambiguous.
_RADIUS = {"small": (0.078, 0.096), "medium": (0.116, 0.145), "large": (0.175, 0.270)}
_GAP = 0.02  # minimum distance between things, as a fraction of `Scene.unit`
_LEAST_LETTER = 11 / 168  # minimum height of a capital letter readable in the overview (about 168 x 168)
_SMALL_PRINT = (8.0, 11.5)  # height of capital letters readable only in slices, in pixels: font size of 11 to 16 pixels

TextLayout = Literal["none", "label", "sign", "lines", "small print"]


@dataclass(frozen=True)
class Shape:
    """One filled shape within the circle of `radius` around (`x`, `y`), in pixels."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float
    rgb: RGB

    @property
    def box(self) -> Box:
        """The bounding box of the shape."""
        corners = outline(self.kind, self.x, self.y, self.radius, self.angle)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return left, top, right, bottom


@dataclass(frozen=True)
class Panel:
    """A filled polygon that is not one of the shapes: a sign, a bar, a pie slice, a rule.

    `colour` is the name of its colour, if it has one; `corners` are in pixels.
    """

    corners: tuple[tuple[float, float], ...]
    rgb: RGB
    colour: str | None = None


Thing = Shape | Label


@dataclass(frozen=True)
class Scene:
    """The ground truth of a picture, or of a view of it (whose sides may be fractional).

    `labels` are in reading order. `blur` is a radius in pixels, `noise` a standard deviation in grey levels, `jpeg` a
    quality (0: not compressed); `seed` determines the noise and the cloudy background, so that drawing is
    deterministic.
    """

    width: float
    height: float
    background: Background
    panels: tuple[Panel, ...] = ()
    shapes: tuple[Shape, ...] = ()
    labels: tuple[Label, ...] = ()
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    seed: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in whole pixels."""
        return round(self.width), round(self.height)

    @property
    def unit(self) -> float:
        """Square root of the area, to which all sizes are relative."""
        return math.sqrt(self.width * self.height)

    @property
    def label(self) -> Label | None:
        """The printed text, if it is a single line."""
        return self.labels[0] if len(self.labels) == 1 else None

    @property
    def things(self) -> tuple[Thing, ...]:
        """The shapes and the printed lines."""
        return (*self.shapes, *self.labels)


def random_size(rng: random.Random, small: float = 0.68) -> tuple[int, int]:
    """Choose a width and height of 64 to 1000 pixels; a share `small` of the pictures is too small to be sliced."""
    while True:
        spread = 0.5 if rng.random() < 0.8 else 1.15
        aspect = math.exp(rng.uniform(-spread, spread))
        low, high = rng.choices(((72, 168), (168, 400), (400, 800)), (small, (1 - small) * 0.7, (1 - small) * 0.3))[0]
        unit = math.exp(rng.uniform(math.log(low), math.log(high)))
        width, height = round(unit * math.sqrt(aspect)), round(unit / math.sqrt(aspect))
        is_small = width * height <= 168 * 168
        if min(width, height) >= 64 and max(width, height) <= 1000 and is_small == (low == 72):
            return width, height


def _wanted_shapes(rng: random.Random, colours: list[str], least: int, most: int) -> list[tuple[str, str]]:
    """Choose kinds and colours to place: a mix, or many of one kind, without which high counts would be rare."""
    if rng.random() < 0.32 and most > 3:
        kind, colour = rng.choice(KINDS), rng.choice(colours)
        count = rng.choices(range(2, 10), (8, 14, 16, 16, 14, 12, 10, 10))[0]
        one_colour = rng.random() < 0.5
        wanted = [(kind, colour if one_colour else rng.choice(colours)) for _ in range(min(count, most))]
        others = rng.randint(0, max(0, 6 - count))
        return wanted + [(rng.choice(KINDS), rng.choice(colours)) for _ in range(min(others, 2))]
    count = min(max(rng.choices(range(8), (2, 22, 24, 20, 14, 9, 6, 3))[0], least), most)
    # Few colours or kinds among several shapes make questions about "the red one" or "the star" non-trivial.
    kinds = rng.sample(KINDS, rng.randint(2, len(KINDS)))
    some = rng.sample(colours, min(len(colours), rng.randint(2, 6)))
    return [(rng.choice(kinds), rng.choice(some)) for _ in range(count)]


def _is_free(x: float, y: float, reach: float, shapes: list[Shape], gap: float, boxes: list[Box]) -> bool:
    if any(math.hypot(x - other.x, y - other.y) < reach + other.radius + gap for other in shapes):
        return False
    return all(
        math.hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3])) >= reach + gap for box in boxes
    )


def _place_shapes(
    rng: random.Random, width: int, height: int, wanted: list[tuple[str, str]], boxes: list[Box]
) -> tuple[Shape, ...]:
    """Place shapes where there is room; one that does not fit is made smaller, or else left out."""
    unit = math.sqrt(width * height)
    weights = {0: (1, 1, 2), 1: (2, 3, 4), 2: (2, 3, 3)}.get(len(wanted), (4, 5, 1))
    shapes: list[Shape] = []
    # Large shapes first, as they are the hardest to place.
    sizes = sorted((SIZES.index(size) for size in rng.choices(SIZES, weights, k=len(wanted))), reverse=True)
    for (kind, colour), largest in zip(wanted, sizes, strict=True):
        for size in SIZES[largest::-1]:
            reach = unit * rng.uniform(*_RADIUS[size])
            edge = reach + 1
            if 2 * edge >= min(width, height):
                continue
            spots = ((rng.uniform(edge, width - edge), rng.uniform(edge, height - edge)) for _ in range(24))
            spot = next(((x, y) for x, y in spots if _is_free(x, y, reach, shapes, _GAP * unit, boxes)), None)
            if spot is not None:
                angle = rng.uniform(-0.26, 0.26)
                shapes.append(Shape(kind, colour, size, *spot, reach, angle, shade(colour, rng)))
                break
    return tuple(shapes)


def worn(scene: Scene, rng: random.Random) -> Scene:
    """Degrade a scene at random: blur, noise and JPEG compression."""
    return replace(
        scene,
        # Relative to the picture, as the model gets a resized one.
        blur=rng.uniform(0.2, 0.5) * scene.unit / 112 if rng.random() < 0.25 else 0.0,
        noise=rng.uniform(2, 12) if rng.random() < 0.4 else 0.0,
        jpeg=rng.randint(45, 92) if rng.random() < 0.3 else 0,
        seed=rng.getrandbits(32),
    )


def random_scene(
    rng: random.Random,
    *,
    held_out: bool = False,
    text: TextLayout | None = None,
    size: tuple[int, int] | None = None,
    least_shapes: int = 0,
) -> Scene:
    """Generate a scene of up to MOST_SHAPES shapes, about a third of them with printed text.

    Args:
        rng: decides everything.
        held_out: print only texts that `is_held_out` (for evaluation); if False, print none of them.
        text: layout of the printed text; random if None. "small print" makes a page that needs slices.
        size: (width, height); random if None.
        least_shapes: minimum number of shapes, if there is room; scenes with text may have none all the same.
    """
    text = text or rng.choices(("none", "label", "sign", "lines"), (62, 24, 5, 9))[0]
    if size is None:
        size = random_page_size(rng) if text == "small print" else random_size(rng)
    while True:
        background = random_background(rng, math.sqrt(size[0] * size[1]))
        colours = visible_colours(background)
        if len(colours) >= 4:
            break
    scene = Scene(*size, background)
    if text != "none":
        scene = _with_text(scene, rng, text, held_out)
    boxes = [around([label.box for label in scene.labels])] if scene.labels and text != "small print" else []
    if text == "small print":
        boxes = [label.box for label in scene.labels]
    if scene.panels:
        boxes = [(*scene.panels[0].corners[0], *scene.panels[0].corners[2])]
    most = MOST_SHAPES if text == "none" else 7 if text == "label" else 3
    wanted = [] if boxes and rng.random() < 0.2 else _wanted_shapes(rng, colours, least_shapes, most)
    scene = replace(scene, shapes=_place_shapes(rng, *size, wanted, boxes))
    return replace(worn(scene, rng), blur=0.0) if text == "small print" else worn(scene, rng)


def random_page_size(rng: random.Random) -> tuple[int, int]:
    """Choose the size of a page of around 700 x 500 pixels, portrait or landscape."""
    unit, aspect = rng.uniform(420, 640), math.exp(rng.uniform(-0.45, 0.45))
    return round(unit * math.sqrt(aspect)), round(unit / math.sqrt(aspect))


def _with_text(scene: Scene, rng: random.Random, layout: TextLayout, held_out: bool) -> Scene:
    """Add printed text to a scene; if the background or the aspect ratio allows none, return it unchanged."""
    for _ in range(8):
        printed = {"label": _label, "lines": _lines, "sign": _sign, "small print": _small_print}[layout](
            scene, rng, held_out
        )
        if printed is not None:
            return printed
    return scene


def _room(scene: Scene, margin: float = 0.02) -> Box:
    edge = margin * scene.unit + 1
    return edge, edge, scene.width - edge, scene.height - edge


def _label(scene: Scene, rng: random.Random, held_out: bool) -> Scene | None:
    return _with_block(scene, rng, 1, scene.unit * rng.uniform(_LEAST_LETTER, 0.26), held_out)


def _lines(scene: Scene, rng: random.Random, held_out: bool) -> Scene | None:
    return _with_block(scene, rng, rng.randint(2, 4), scene.unit * rng.uniform(_LEAST_LETTER, 0.13), held_out)


def _with_block(scene: Scene, rng: random.Random, lines: int, letter: float, held_out: bool) -> Scene | None:
    colours = visible_colours(scene.background, lightness_step=32)
    if not colours:
        return None
    texts = _texts(rng, lines, held_out)
    labels = text_block(rng, texts, _room(scene), letter, _LEAST_LETTER * scene.unit, colours)
    return replace(scene, labels=labels) if labels else None


def _texts(rng: random.Random, count: int, held_out: bool) -> list[str]:
    """Choose distinct texts."""
    texts: list[str] = []
    while len(texts) < count:
        text = printable_text(rng, held_out)
        if text not in texts:
            texts.append(text)
    return texts


def _sign(scene: Scene, rng: random.Random, held_out: bool) -> Scene | None:
    """Add text on a sign, a panel of its own."""
    board = random_background(rng, scene.unit)
    colours = visible_colours(board, lightness_step=32)
    apart = sum(abs(a - b) for a, b in zip(board.first, scene.background.first, strict=True))
    if not colours or apart < 60:
        return None
    board = replace(board, kind="plain")
    letter = scene.unit * rng.uniform(_LEAST_LETTER, 0.18)
    labels = text_block(
        rng,
        _texts(rng, rng.choice((1, 1, 2)), held_out),
        _room(scene, 0.08),
        letter,
        _LEAST_LETTER * scene.unit,
        colours,
    )
    if labels is None:
        return None
    left, top, right, bottom = around([label.box for label in labels])
    edge = scene.unit * rng.uniform(0.03, 0.055)
    left, top, right, bottom = left - edge, top - edge, right + edge, bottom + edge
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    alike = next((name for name in ("black", "white") if name not in visible_colours(board)), None)
    return replace(scene, panels=(Panel(corners, board.first, alike),), labels=labels)


def _small_print(scene: Scene, rng: random.Random, held_out: bool) -> Scene | None:
    """Add one to four lines far apart, each too small to read in the overview."""
    colours = visible_colours(scene.background, lightness_step=45)
    if not colours:
        return None
    count = rng.randint(1, 4)
    rows = sorted(rng.sample(range(6), count))
    left, top, right, bottom = _room(scene)
    band = (bottom - top) / 6
    labels: list[Label] = []
    for number, (row, text) in enumerate(zip(rows, _texts(rng, count, held_out), strict=True), start=1):
        letter = rng.uniform(*_SMALL_PRINT)
        room = (left, top + row * band + 2, right, top + (row + 1) * band - 2)
        line = text_block(rng, [text], room, letter, _SMALL_PRINT[0], colours)
        if line is None:
            return None
        labels.append(replace(line[0], row=number))
    return replace(scene, labels=tuple(labels))
