"""Synthetic pictures of which everything is known: the scene, its drawing, and what lies in every patch.

A `Scene` is the truth (shapes, one printed word or number, background); `draw` turns it into pixels; `patch_labels`
and `cell_labels` say where on a grid of patches the things are. Questions about a scene are in `questions.py`.

Units: positions, radii, heights and boxes are pixels of the picture, x to the right and y down; angles are radians,
clockwise on the screen. `Scene.unit` (square root of the area) is the length that other lengths are fractions of,
since the model sees every picture shrunk to about the same area (112 x 112).

Shape legend: H height · W width · S shapes · M characters · R rows of patches · C columns of patches · K cell labels.
"""

import colorsys
import importlib.util
import io
import math
import random
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom

KINDS = ("circle", "square", "triangle", "star", "cross", "heart")
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SIZES = ("small", "medium", "large")
BACKGROUNDS = ("plain", "gradient", "stripes", "dots", "cloudy")

# Hue in degrees, saturation, value, and the most each may be off. Brown (a dark orange) and gray (a background) are
# left out: with jitter, blur and JPEG they cannot be told from their neighbours with certainty.
_PALETTE: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "red": ((0, 0.90, 0.84), (5, 0.08, 0.09)),
    "orange": ((29, 0.93, 0.97), (4, 0.06, 0.03)),
    "yellow": ((54, 0.86, 0.96), (4, 0.10, 0.04)),
    "green": ((125, 0.75, 0.60), (18, 0.15, 0.13)),
    "blue": ((220, 0.84, 0.80), (11, 0.12, 0.15)),
    "purple": ((280, 0.72, 0.60), (9, 0.12, 0.10)),
    "pink": ((335, 0.48, 0.98), (7, 0.09, 0.02)),
    "black": ((0, 0.10, 0.07), (180, 0.10, 0.06)),
    "white": ((0, 0.01, 0.98), (180, 0.01, 0.02)),
}
COLOURS = tuple(_PALETTE)

# Bounding-circle radius as a fraction of `Scene.unit`. The gaps between the ranges keep the three words true.
_RADIUS = {"small": (0.078, 0.096), "medium": (0.116, 0.145), "large": (0.175, 0.270)}
_GAP = 0.02  # kept free around every thing, as a fraction of `Scene.unit`

LEAST_LETTER = 13 / 112  # letter height as a fraction of `Scene.unit`: 13 pixels once shrunk to 112 x 112
_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmss10",
    "cmb10",
)

_LEAST_COVER = 0.15  # of a patch, below which a thing does not count as lying there
PAIRS = len(KINDS) * len(COLOURS)
CELL_LABELS = PAIRS + len(CHARACTERS) + len(KINDS)  # K

_WORDS = """
CAT DOG CAR SUN BUS HAT CUP BOX KEY MAP PEN RED SEA SKY TEA TOY VAN ZOO BEE COW EGG FOX ICE JAM JET LEG MAN NET OIL
OWL PIE PIG RAT ROW SIX TEN TOP WAY WEB WIN YES NOT NEW OLD BIG HOT OFF OUT BAR BED BAG ANT ARM ART AGE AIR ACE ADD
EAR EYE FUN GAS GUM HEN HIP INK JOB JOY KIT LIP LOG MUD NUT OAK PAN POT RUN SAD TAX TIP USE WAX YAK ZIP FLY GOLF BOOK
FISH TREE BIRD SHIP STAR MOON RAIN SNOW WIND FIRE ROAD SHOP SALE OPEN EXIT STOP TAXI CITY PARK HOME DOOR WALL KING
LION BEAR DUCK FROG GOAT WOLF ZERO NINE FIVE FOUR JUMP JAZZ QUIZ MILK RICE SALT CAKE BLUE GOLD GIFT HAND FOOT HEAD
LOVE LUCK MAIL NEXT NOTE PLAY PUSH PULL RING ROSE SHOE SOAP SONG TIME TOWN WAVE WEST EAST YEAR YARN ZONE EXAM OVEN
UNIT VEST KNEE HOTEL BREAD APPLE GRAPE LEMON WATER PIZZA TRAIN PLANE TRUCK MOUSE HORSE SHEEP ZEBRA TIGER PANDA QUEEN
HOUSE TABLE CHAIR CLOCK LIGHT MUSIC DANCE SMILE HAPPY HELLO WORLD GREEN BLACK WHITE BROWN EIGHT SEVEN THREE PAPER
RADIO PHONE ROBOT RIVER OCEAN BEACH CLOUD STORM NIGHT NORTH SOUTH FIELD FRUIT JUICE KNIFE SPOON PLATE GLASS SUGAR
HONEY MONEY VIDEO XENON YOUTH ORANGE YELLOW PURPLE BANANA TOMATO POTATO CHEESE BUTTER COFFEE DINNER FAMILY FRIEND
SCHOOL PENCIL WINDOW GARDEN FLOWER FOREST ISLAND SUMMER WINTER SPRING AUTUMN ANIMAL MONKEY RABBIT PARROT SPIDER TURTLE
ROCKET PLANET GALAXY SILVER MARKET BRIDGE CASTLE DOCTOR ENGINE GUITAR HAMMER JACKET KITTEN LADDER MIRROR NUMBER OXYGEN
PEPPER QUARTZ RIBBON SOCCER TICKET VALLEY WIZARD
""".split()


@dataclass(frozen=True)
class Background:
    """What is behind everything: one of BACKGROUNDS in two colours that are close to each other.

    `period` is the distance of stripes or dots in pixels, `angle` the direction in radians.
    """

    kind: str
    first: RGB
    second: RGB
    angle: float
    period: float


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


@dataclass(frozen=True)
class Label:
    """One printed word or number.

    (`x`, `y`) is the centre of its ink, `height` the height of a capital letter, `boxes` the ink of each character.
    """

    text: str
    font: str
    colour: str
    x: float
    y: float
    height: float
    rgb: RGB
    boxes: tuple[Box, ...]

    @property
    def box(self) -> Box:
        """The ink of the whole label."""
        lefts, tops, rights, bottoms = zip(*self.boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    @property
    def is_number(self) -> bool:
        """Whether digits are printed; if not, letters are."""
        return self.text.isdigit()


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


# --- outlines ---------------------------------------------------------------------------------------------------------


def _outline(kind: str) -> NDArray[np.float64]:
    """Corners [n, 2] of a shape whose bounding circle is the unit circle; y points down."""
    if kind == "circle":
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if kind == "square":
        turn = np.pi / 4 + np.arange(4) * np.pi / 2
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if kind == "triangle":
        turn = -np.pi / 2 + np.arange(3) * 2 * np.pi / 3
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if kind == "star":
        turn = -np.pi / 2 + np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        return np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)
    if kind == "cross":
        half = 0.30
        tip = math.sqrt(1 - half * half)
        arm = [(-half, -tip), (half, -tip), (half, -half)]
        corners = [(x, y) for x, y in arm]
        for _ in range(3):  # the other three arms are the first one turned by quarters
            arm = [(-y, x) for x, y in arm]
            corners += arm
        return np.array(corners)
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    heart = np.stack(
        [
            16 * np.sin(turn) ** 3,
            -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)),
        ],
        axis=1,
    )
    heart[:, 1] -= (heart[:, 1].max() + heart[:, 1].min()) / 2
    return np.asarray(heart / np.hypot(heart[:, 0], heart[:, 1]).max())


_OUTLINES = {kind: _outline(kind) for kind in KINDS}
_BINS = 512


def _reach(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance [_BINS] from the centre to the outline by direction; every outline is met once in each direction."""
    steps = np.linspace(0, 1, 64, endpoint=False)[None, :, None]
    ends = np.roll(outline, -1, axis=0)
    points = (outline[:, None] * (1 - steps) + ends[:, None] * steps).reshape(-1, 2)
    directions = np.arctan2(points[:, 1], points[:, 0])
    return np.interp(
        np.arange(_BINS) * 2 * np.pi / _BINS, directions, np.hypot(points[:, 0], points[:, 1]), period=2 * np.pi
    )


_REACH = np.stack([_reach(_OUTLINES[kind]) for kind in KINDS])  # [kinds, _BINS]


# --- colours ----------------------------------------------------------------------------------------------------------


def _to_rgb(hue_degrees: float, saturation: float, value: float) -> RGB:
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue_degrees / 360 % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _shade(colour: str, rng: random.Random) -> RGB:
    """One of the shades that go by this name."""
    middle, spread = _PALETTE[colour]
    hue, saturation, value = (centre + rng.uniform(-off, off) for centre, off in zip(middle, spread, strict=True))
    return _to_rgb(hue, saturation, value)


def _lab(rgb: RGB) -> tuple[float, float, float]:
    """CIE L*a*b* of an sRGB colour, in which distances are about what the eye sees."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    red, green, blue = linear
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


_LAB = {colour: _lab(_to_rgb(*middle)) for colour, (middle, _) in _PALETTE.items()}


def _visible_colours(background: Background, lightness_step: float = 0.0) -> list[str]:
    """Colours that stand out from both background colours; thin strokes also need a step in lightness."""
    behind = (_lab(background.first), _lab(background.second))
    return [
        colour
        for colour, lab in _LAB.items()
        if all(math.dist(lab, other) >= 48 and abs(lab[0] - other[0]) >= lightness_step for other in behind)
    ]


def _random_background(rng: random.Random, unit: float) -> Background:
    manner = rng.choices(("white", "pale", "dark", "tinted"), (20, 40, 20, 20))[0]
    hue = rng.uniform(0, 360)
    saturation, value = {
        "white": (0.0, 1.0),
        "pale": (rng.uniform(0.0, 0.14), rng.uniform(0.84, 1.0)),
        "dark": (rng.uniform(0.0, 0.5), rng.uniform(0.04, 0.24)),
        "tinted": (rng.uniform(0.0, 0.4), rng.uniform(0.40, 0.84)),
    }[manner]
    first = _to_rgb(hue, saturation, value)
    kind = rng.choices(BACKGROUNDS, (46, 18, 12, 10, 14))[0]
    step = rng.uniform(0.07, 0.16) if kind == "gradient" else rng.uniform(0.03, 0.08)
    second = _to_rgb(
        hue + rng.uniform(-25, 25), saturation + rng.uniform(0, 0.06), value + (step if value < 0.5 else -step)
    )
    return Background(kind, first, second, rng.uniform(0, 2 * math.pi), unit * rng.uniform(0.05, 0.14))


# --- printed text -----------------------------------------------------------------------------------------------------


def is_held_out(text: str) -> bool:
    """Whether a printed text is kept for evaluation: a tenth of all of two characters or more, by their CRC-32.

    Single digits are never held out; there are only ten of them to learn.
    """
    return len(text) > 1 and zlib.crc32(text.encode("ascii")) % 10 == 0


def _random_text(rng: random.Random) -> str:
    manner = rng.choices(("word", "sounding", "letters", "number"), (28, 18, 26, 28))[0]
    if manner == "word":
        return rng.choice(_WORDS)
    if manner == "number":
        return "".join(rng.choices("0123456789", k=rng.randint(1, 4)))
    count = rng.randint(3, 6)
    if manner == "letters":
        return "".join(rng.choices(CHARACTERS[:26], k=count))
    sounds = ("BCDFGHJKLMNPRSTVWXYZ", "AEIOUY")
    start = rng.randint(0, 1)
    return "".join(rng.choice(sounds[(start + place) % 2]) for place in range(count))


def printable_text(rng: random.Random, held_out: bool = False) -> str:
    """A word, letters or a number to print; only held-out ones, or none of them."""
    while True:
        text = _random_text(rng)
        if is_held_out(text) == held_out:
            return text


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    # Found without importing matplotlib, which takes a second and is not needed for its font files.
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("expected the fonts of matplotlib, which is missing; run: pip install matplotlib")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=1024)
def _font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is the one that every Pillow has, so pictures are the same everywhere.
    return ImageFont.truetype(str(_font_folder() / f"{name}.ttf"), pixels, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def _capital_height(name: str) -> float:
    """Height of a capital letter as a fraction of the font size."""
    _, top, _, bottom = _font(name, 400).getbbox("H", anchor="ls")
    return float(bottom - top) / 400


def _font_pixels(name: str, height: float) -> int:
    """Font size whose capital letters are at least so high."""
    return math.ceil(height / _capital_height(name))


@lru_cache(maxsize=1 << 15)
def _ink_box(name: str, pixels: int, character: str) -> tuple[int, int, int, int]:
    """Ink of a character whose pen is at (0, 0) on the base line; `getbbox` of the font would add the blank sides."""
    mask, (right, down) = _font(name, pixels).getmask2(character, "L", anchor="ls")
    ink = mask.getbbox()
    return ink[0] + right, ink[1] + down, ink[2] + right, ink[3] + down


def _character_boxes(text: str, name: str, height: float, spacing: float) -> list[Box]:
    """Ink of each character, the first one's pen at (0, 0); `spacing` is added between two, in capital heights."""
    pixels = _font_pixels(name, height)
    boxes: list[Box] = []
    pen = 0.0
    for character in text:
        left, top, right, bottom = _ink_box(name, pixels, character)
        boxes.append((round(pen) + left, top, round(pen) + right, bottom))
        pen += _font(name, pixels).getlength(character) + spacing * height
    return boxes


def _random_label(
    rng: random.Random, width: int, height: int, background: Background, alone: bool, held_out: bool
) -> Label | None:
    """A label that is legible and fits; None where the background or the format of the picture allows none."""
    unit = math.sqrt(width * height)
    colours = _visible_colours(background, lightness_step=32)
    if not colours:
        return None
    for _ in range(8):
        text, name, spacing = printable_text(rng, held_out), rng.choice(_FONTS), rng.uniform(0.02, 0.22)
        letter = unit * rng.uniform(LEAST_LETTER * 1.03, 0.36 if alone else 0.22)
        boxes = _character_boxes(text, name, letter, spacing)
        wide = boxes[-1][2] - boxes[0][0]
        if wide > 0.93 * width:
            letter *= 0.9 * width / wide
            boxes = _character_boxes(text, name, letter, spacing)
            wide = boxes[-1][2] - boxes[0][0]
        top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
        margin = round(0.02 * unit) + 1
        room_x, room_y = math.floor(width - wide - 2 * margin), math.floor(height - (bottom - top) - 2 * margin)
        if letter < LEAST_LETTER * unit or room_x < 0 or room_y < 0:
            continue
        # Whole pixels, so that the letters drawn lie exactly in their boxes.
        right = margin + rng.randint(0, room_x) - boxes[0][0]
        down = margin + rng.randint(0, room_y) - top
        placed = tuple((box[0] + right, box[1] + down, box[2] + right, box[3] + down) for box in boxes)
        colour = rng.choice(colours)
        x, y = (placed[0][0] + placed[-1][2]) / 2, down + (top + bottom) / 2
        return Label(text, name, colour, x, y, letter, _shade(colour, rng), placed)
    return None


# --- composing a scene ------------------------------------------------------------------------------------------------


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
                shapes.append(Shape(kind, colour, size, *spot, reach, angle, _shade(colour, rng)))
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
        background = _random_background(rng, unit)
        colours = _visible_colours(background)
        if len(colours) >= 4:
            break
    label = None
    wanted = _wanted_shapes(rng, colours, labelled=False)
    if rng.random() < label_share:
        wanted = _wanted_shapes(rng, colours, labelled=True)
        label = _random_label(rng, width, height, background, alone=len(wanted) < 2, held_out=held_out)
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


# --- drawing ----------------------------------------------------------------------------------------------------------

_FINER = 3  # masks of shapes are drawn this many times as large and reduced, for smooth edges
_NOISE = np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)  # drawing fresh noise would be slow


def _mixture(scene: Scene) -> NDArray[np.float32] | None:
    """Share [H, W, 1] of the second background colour at each pixel; None where the background is plain."""
    background = scene.background
    if background.kind == "plain":
        return None
    if background.kind == "cloudy":
        coarse = np.random.default_rng(scene.seed).random((5, 5), dtype=np.float32)
        cloud = Image.fromarray(coarse).resize((scene.width, scene.height), Image.Resampling.BICUBIC)
        return np.asarray(cloud, dtype=np.float32).clip(0, 1)[..., None]
    x = np.arange(scene.width, dtype=np.float32)[None, :]
    y = np.arange(scene.height, dtype=np.float32)[:, None]
    cosine, sine = np.float32(math.cos(background.angle)), np.float32(math.sin(background.angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    if background.kind == "gradient":
        return np.asarray((along - along.min()) / (along.max() - along.min()))[..., None]
    wave = np.float32(2 * math.pi / background.period)
    if background.kind == "stripes":
        return (np.sin(along * wave) * 3 + 0.5).clip(0, 1)[..., None]
    return (((np.sin(along * wave) + np.sin(across * wave)) - 1.2) * 3).clip(0, 1)[..., None]


def _draw_background(scene: Scene) -> Image.Image:
    share = _mixture(scene)
    if share is None:
        return Image.new("RGB", (scene.width, scene.height), scene.background.first)
    first = np.array(scene.background.first, dtype=np.float32)
    second = np.array(scene.background.second, dtype=np.float32)
    return Image.fromarray((first + share * (second - first)).astype(np.uint8))


def _draw_shape(image: Image.Image, shape: Shape) -> None:
    left, top = math.floor(shape.x - shape.radius) - 1, math.floor(shape.y - shape.radius) - 1
    side = math.ceil(2 * shape.radius) + 3
    cosine, sine = math.cos(shape.angle), math.sin(shape.angle)
    turned = _OUTLINES[shape.kind] @ np.array([[cosine, sine], [-sine, cosine]])
    corners = (turned * shape.radius + (shape.x - left, shape.y - top)) * _FINER
    mask = Image.new("L", (side * _FINER, side * _FINER))
    ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=255)
    image.paste(shape.rgb, (left, top), mask.reduce(_FINER))


def _draw_label(image: Image.Image, label: Label) -> None:
    pixels = _font_pixels(label.font, label.height)
    font = _font(label.font, pixels)
    pen = ImageDraw.Draw(image)
    for character, box in zip(label.text, label.boxes, strict=True):
        left, top, _, _ = _ink_box(label.font, pixels, character)
        pen.text((box[0] - left, box[1] - top), character, fill=label.rgb, font=font, anchor="ls")


def draw(scene: Scene) -> Image.Image:
    """Draws a scene, the same pixels each time.

    Returns:
        An RGB picture of `scene.width` x `scene.height` pixels, edges smoothed.
    """
    image = _draw_background(scene)
    for shape in scene.shapes:
        _draw_shape(image, shape)
    if scene.label is not None:
        _draw_label(image, scene.label)
    if scene.blur:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur))
    if scene.noise:
        pixels = np.asarray(image, dtype=np.float32)
        start = scene.seed % (_NOISE.size - pixels.size)
        grain = _NOISE[start : start + pixels.size].reshape(pixels.shape)
        image = Image.fromarray((pixels + grain * np.float32(scene.noise)).clip(0, 255).astype(np.uint8))
    if scene.jpeg:
        stored = io.BytesIO()
        image.save(stored, "JPEG", quality=scene.jpeg)
        image = Image.open(stored).convert("RGB")
    return image


# --- what lies where --------------------------------------------------------------------------------------------------

_SAMPLES = 6  # points per side of a patch at which the outlines are tried


def _shape_cover(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Share [S, R*C] of each patch that each shape covers."""
    count = len(scene.shapes)
    if not count:
        return np.zeros((0, rows * columns), np.float32)
    x, y, reach, angle = np.array([(s.x, s.y, s.radius, s.angle) for s in scene.shapes], np.float32).T[..., None, None]
    kinds = np.array([KINDS.index(shape.kind) for shape in scene.shapes])[:, None, None]
    across = (np.arange(columns * _SAMPLES, dtype=np.float32) + 0.5) * (scene.width / (columns * _SAMPLES)) - x
    down = (np.arange(rows * _SAMPLES, dtype=np.float32)[:, None] + 0.5) * (scene.height / (rows * _SAMPLES)) - y
    direction = np.rint((np.arctan2(down, across) - angle) * (_BINS / (2 * np.pi))).astype(np.int64) % _BINS
    inside = np.hypot(across, down) <= reach * _REACH[kinds, direction]
    shares = inside.reshape(count, rows, _SAMPLES, columns, _SAMPLES).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(shares.reshape(count, rows * columns))


def _shared_length(
    low: NDArray[np.float64], high: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Length [M, n] that each interval low..high has in common with each of the n intervals between `edges`."""
    shared = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
    return np.asarray(shared.clip(0, None))


def _box_overlap(
    boxes: tuple[Box, ...], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area [M, rows, columns] that each box shares with each field of a grid."""
    left, top, right, bottom = np.array(boxes, np.float64).reshape(-1, 4).T
    return _shared_length(top, bottom, y_edges)[:, :, None] * _shared_length(left, right, x_edges)[:, None, :]


def _patch_characters(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Number in CHARACTERS plus one of the character in each patch [R*C], 0 for none."""
    if scene.label is None:
        return np.zeros(rows * columns, np.int64)
    boxes = np.array(scene.label.boxes, np.float64)
    patch_width, patch_height = scene.width / columns, scene.height / rows
    overlap = _box_overlap(
        scene.label.boxes, np.linspace(0, scene.width, columns + 1), np.linspace(0, scene.height, rows + 1)
    ).reshape(len(boxes), -1)
    areas = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))[:, None]
    # A narrow letter (I, 1) may cover little of a patch and yet lie there with most of itself.
    counts = (overlap >= _LEAST_COVER * patch_width * patch_height) | (overlap >= 0.3 * areas)
    x = ((np.arange(columns) + 0.5) * patch_width)[None, None, :]
    y = ((np.arange(rows) + 0.5) * patch_height)[None, :, None]
    middle_x, middle_y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    away = np.hypot(x - middle_x[:, None, None], y - middle_y[:, None, None]).reshape(len(boxes), -1)
    # Most cover wins; where two cover the same, the nearer one.
    score = np.where(counts, overlap / (patch_width * patch_height) - 1e-3 * away / scene.unit, -1.0)
    numbers = np.array([CHARACTERS.index(character) + 1 for character in scene.label.text], np.int64)
    return np.where(counts.any(axis=0), numbers[score.argmax(axis=0)], 0)


def patch_labels(scene: Scene, rows: int, columns: int) -> dict[str, NDArray[np.int64]]:
    """Says what lies in each of rows x columns equal patches of the picture.

    Returns:
        Three arrays [R*C], row by row, in all of which 0 means nothing:
        "kind" (number in KINDS plus one) of the shape that covers most of the patch, and 15 % of it at least;
        "character" (number in CHARACTERS plus one) of the printed character there;
        "colour" (number in COLOURS plus one) of that shape, or of the character where there is no shape.
    """
    characters = _patch_characters(scene, rows, columns)
    kinds = np.zeros(rows * columns, np.int64)
    colours = np.zeros(rows * columns, np.int64)
    if scene.label is not None:
        colours[characters > 0] = COLOURS.index(scene.label.colour) + 1
    if scene.shapes:
        cover = _shape_cover(scene, rows, columns)
        most = cover.argmax(axis=0)
        there = cover.max(axis=0) >= _LEAST_COVER
        kind_numbers = np.array([KINDS.index(shape.kind) + 1 for shape in scene.shapes], np.int64)
        colour_numbers = np.array([COLOURS.index(shape.colour) + 1 for shape in scene.shapes], np.int64)
        kinds[there] = kind_numbers[most[there]]
        colours[there] = colour_numbers[most[there]]
    return {"kind": kinds, "colour": colours, "character": characters}


def cell_labels(scene: Scene, rows: int, columns: int, cell: int = 2, cells: int = 5) -> NDArray[np.float32]:
    """Says which things lie in each cell of a coarser grid over the patches.

    Cell (r, c) covers the patch rows from cell*r on, `cell` of them, and the columns likewise; the last row and column
    of cells cover all that remains. Cells past the end of a smaller grid of patches hold nothing.

    Returns:
        Zeros and ones [cells*cells, CELL_LABELS]. First PAIRS entries: a shape of this kind and colour is in the cell
        (number of the kind times len(COLOURS) plus number of the colour); then one per character: printed there, with
        its middle or 30 % of it; then one per kind: the centre of such a shape lies there, which is what to count.
    """
    found = np.zeros((cells * cells, CELL_LABELS), np.float32)
    row_cells = np.minimum(np.arange(rows) // cell, cells - 1)
    column_cells = np.minimum(np.arange(columns) // cell, cells - 1)
    patch_cells = (row_cells[:, None] * cells + column_cells[None, :]).ravel()

    def cell_at(x: float, y: float) -> int:
        row, column = int(y / scene.height * rows), int(x / scene.width * columns)
        return int(patch_cells[min(max(row, 0), rows - 1) * columns + min(max(column, 0), columns - 1)])

    for shape, cover in zip(scene.shapes, _shape_cover(scene, rows, columns), strict=True):
        kind = KINDS.index(shape.kind)
        pair = kind * len(COLOURS) + COLOURS.index(shape.colour)
        centre = cell_at(shape.x, shape.y)
        found[patch_cells[cover >= _LEAST_COVER], pair] = 1
        found[centre, pair] = 1
        found[centre, PAIRS + len(CHARACTERS) + kind] = 1
    if scene.label is not None:
        x_edges = np.append(np.arange(column_cells[-1] + 1) * cell, columns) * (scene.width / columns)
        y_edges = np.append(np.arange(row_cells[-1] + 1) * cell, rows) * (scene.height / rows)
        overlaps = _box_overlap(scene.label.boxes, x_edges, y_edges)
        for character, box, overlap in zip(scene.label.text, scene.label.boxes, overlaps, strict=True):
            entry = PAIRS + CHARACTERS.index(character)
            there_rows, there_columns = np.nonzero(overlap >= 0.3 * (box[2] - box[0]) * (box[3] - box[1]))
            found[there_rows * cells + there_columns, entry] = 1
            found[cell_at((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), entry] = 1
    return found
