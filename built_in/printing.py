"""Printed words and numbers: choice of texts, layout of lines, and rendering.

Units: positions, heights and boxes are pixels, x to the right and y down. The pen is on the base line, at the left of
the next character. The fonts are those shipped with matplotlib, so that pictures are the same everywhere.
"""

import importlib.util
import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from built_in.palette import RGB, shade

Box = tuple[float, float, float, float]  # left, top, right, bottom

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MOST_CHARACTERS = 12  # per line
LAST_ROW = LAST_COLUMN = 5
FONTS = (
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
class Label:
    """One printed line: a word or a number.

    (`x`, `y`) is the centre of its ink, `height` the height of a capital letter, `boxes` the ink of each character.
    `row` and `column` count from 1 within a text, a table or a chart, where it is in one; in a chart the row is the
    rank of its value, LAST_ROW the lowest.
    """

    text: str
    font: str
    colour: str
    x: float
    y: float
    height: float
    rgb: RGB
    boxes: tuple[Box, ...]
    row: int = 0
    column: int = 0

    @property
    def box(self) -> Box:
        """The bounding box of the ink."""
        return around(self.boxes)

    @property
    def noun(self) -> str:
        """The noun for the label: "word" or "number"."""
        return "number" if self.text.isdigit() else "word"


def around(boxes: Sequence[Box]) -> Box:
    """Return the bounding box of boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
HEADERS = ("AGE", "CITY", "PRICE", "SIZE", "YEAR", "TEAM", "DAY", "CODE", "RANK", "COST", "GOALS", "ROOM")
_FEW = frozenset(("NAME", *MONTHS, *DAYS, *HEADERS))


def is_held_out(text: str) -> bool:
    """Return whether a printed text is reserved for evaluation: a tenth of all, by their CRC-32.

    Small sets that training needs in full are never reserved: numbers up to 99, and the words of charts and tables.
    """
    is_of_few = text in _FEW or (text.isdigit() and len(text) <= 2)
    return len(text) > 1 and not is_of_few and zlib.crc32(text.encode("ascii")) % 10 == 0


def _random_text(rng: random.Random) -> str:
    manner = rng.choices(("word", "sounding", "letters", "number"), (26, 26, 22, 26))[0]
    if manner == "word":
        return rng.choice(_WORDS)
    if manner == "number":
        return "".join(rng.choices("0123456789", k=_length(rng, 1)))
    count = _length(rng, 2)
    if manner == "letters":
        return "".join(rng.choices(CHARACTERS[:26], k=count))
    sounds = ("BCDFGHJKLMNPRSTVWXYZ", "AEIOUY")
    start = rng.randint(0, 1)
    return "".join(rng.choice(sounds[(start + place) % 2]) for place in range(count))


def _length(rng: random.Random, least: int) -> int:
    """Choose a length, mostly short, sometimes up to MOST_CHARACTERS."""
    return rng.randint(least, 6 if rng.random() < 0.7 else MOST_CHARACTERS)


def printable_text(rng: random.Random, held_out: bool = False) -> str:
    """Choose a word, letters or a number to print, either only held-out ones or none of them."""
    while True:
        text = _random_text(rng)
        if is_held_out(text) == held_out:
            return text


@cache
def _font_folder() -> Path:
    # Located without importing matplotlib, which takes a second.
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("expected the fonts of matplotlib, which is missing; run: pip install matplotlib")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=1024)
def _font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is available in every Pillow build, so pictures are the same everywhere.
    return ImageFont.truetype(str(_font_folder() / f"{name}.ttf"), pixels, layout_engine=ImageFont.Layout.BASIC)


@cache
def _capital_height(name: str) -> float:
    """Return the height of a capital letter as a fraction of the font size."""
    _, top, _, bottom = _font(name, 400).getbbox("H", anchor="ls")
    return float(bottom - top) / 400


def _font_pixels(name: str, height: float) -> int:
    """Return the font size whose capital letters have at least this height."""
    return math.ceil(height / _capital_height(name))


@lru_cache(maxsize=1 << 15)
def _ink_box(name: str, pixels: int, character: str) -> tuple[int, int, int, int]:
    """Return the ink box of a character with the pen at (0, 0); the font's `getbbox` would include side bearings."""
    mask, (right, down) = _font(name, pixels).getmask2(character, "L", anchor="ls")
    ink = mask.getbbox()
    return ink[0] + right, ink[1] + down, ink[2] + right, ink[3] + down


def character_boxes(text: str, font: str, height: float, spacing: float) -> list[Box]:
    """Return the ink box of each character, starting at (0, 0); `spacing` between two is in capital heights."""
    pixels = _font_pixels(font, height)
    boxes: list[Box] = []
    pen = 0.0
    for character in text:
        left, top, right, bottom = _ink_box(font, pixels, character)
        boxes.append((round(pen) + left, top, round(pen) + right, bottom))
        pen += _font(font, pixels).getlength(character) + spacing * height
    return boxes


def printed_at(text: str, font: str, height: float, left: float, top: float, colour: str, rgb: RGB) -> Label:
    """Return a label whose ink starts at (left, top), in whole pixels, so that the boxes of its letters are exact."""
    return _moved(character_boxes(text, font, height, spacing=0.1), text, font, height, left, top, colour, rgb)


def _moved(
    boxes: list[Box], text: str, font: str, height: float, left: float, top: float, colour: str, rgb: RGB
) -> Label:
    ink = around(boxes)
    across, down = round(left - ink[0]), round(top - ink[1])
    placed = tuple((box[0] + across, box[1] + down, box[2] + across, box[3] + down) for box in boxes)
    x, y = across + (ink[0] + ink[2]) / 2, down + (ink[1] + ink[3]) / 2
    return Label(text, font, colour, x, y, height, rgb, placed)


def text_block(
    rng: random.Random, texts: Sequence[str], room: Box, letter: float, least: float, colours: Sequence[str]
) -> tuple[Label, ...] | None:
    """Lay out lines of text in one font and colour at a random position within a box.

    Args:
        rng: decides font, spacing, colour, alignment and position.
        texts: texts of the lines, from top to bottom.
        room: box that contains all ink.
        letter: desired height of a capital letter; reduced if the lines do not fit.
        least: minimum height of a capital letter.
        colours: colours to choose from.

    Returns:
        One label per line; None if the lines do not fit.
    """
    font, spacing, leading = rng.choice(FONTS), rng.uniform(0.02, 0.22), rng.uniform(1.6, 2.4)
    wide, high = room[2] - room[0], room[3] - room[1]
    lines = [character_boxes(text, font, letter, spacing) for text in texts]
    needed = max(
        max((boxes[-1][2] - boxes[0][0]) / wide for boxes in lines), _block_height(len(lines), leading) * letter / high
    )
    if needed > 1:
        letter *= 0.93 / needed
        lines = [character_boxes(text, font, letter, spacing) for text in texts]
    if letter < least:
        return None
    widths = [around(boxes)[2] - around(boxes)[0] for boxes in lines]
    block = (max(widths), _block_height(len(lines), leading) * letter)
    if block[0] > wide or block[1] > high:
        return None
    left, top = room[0] + rng.uniform(0, wide - block[0]), room[1] + rng.uniform(0, high - block[1])
    slack = rng.choice((0.0, 0.5, rng.random()))  # left aligned, centred, or anything between
    colour = rng.choice(colours)
    rgb = shade(colour, rng)
    placed = (
        _moved(boxes, text, font, letter, left + slack * (block[0] - width), top + row * leading * letter, colour, rgb)
        for row, (text, boxes, width) in enumerate(zip(texts, lines, widths, strict=True))
    )
    return tuple(replace(label, row=row) for row, label in enumerate(placed, start=1))


def _block_height(lines: int, leading: float) -> float:
    """Return the height of a block in capital heights, including descenders such as that of Q."""
    return (lines - 1) * leading + 1.25


def print_label(image: Image.Image, label: Label) -> None:
    """Draw each character into its box."""
    pixels = _font_pixels(label.font, label.height)
    font = _font(label.font, pixels)
    pen = ImageDraw.Draw(image)
    for character, box in zip(label.text, label.boxes, strict=True):
        left, top, _, _ = _ink_box(label.font, pixels, character)
        pen.text((box[0] - left, box[1] - top), character, fill=label.rgb, font=font, anchor="ls")
