"""Colours: shades of each colour name, backgrounds, and the colours that contrast with a background.

A background is always pale, dark or dull enough to leave at least some of the named colours usable. Colours are RGB
from 0 to 255 unless stated otherwise.
"""

import colorsys
import math
import random
from dataclasses import dataclass

RGB = tuple[int, int, int]

# Hue in degrees, saturation, value, and the maximum deviation of each. Brown (a dark orange) and grey (a background)
# are left out: with jitter, blur and JPEG they cannot be distinguished reliably from similar colours.
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
BACKGROUNDS = ("plain", "gradient", "stripes", "dots", "cloudy")


@dataclass(frozen=True)
class Background:
    """A background: one of BACKGROUNDS in two colours that are close to each other.

    `period` is the distance of stripes or dots in pixels, `angle` the direction in radians.
    """

    kind: str
    first: RGB
    second: RGB
    angle: float
    period: float


def _to_rgb(hue_degrees: float, saturation: float, value: float) -> RGB:
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue_degrees / 360 % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def shade(colour: str, rng: random.Random) -> RGB:
    """Choose a random shade of a colour."""
    middle, spread = _PALETTE[colour]
    hue, saturation, value = (centre + rng.uniform(-off, off) for centre, off in zip(middle, spread, strict=True))
    return _to_rgb(hue, saturation, value)


def lab(rgb: RGB) -> tuple[float, float, float]:
    """Convert an sRGB colour to CIE L*a*b*, in which distances are roughly perceptual."""
    red, green, blue = (c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


_LAB = {colour: lab(_to_rgb(*middle)) for colour, (middle, _) in _PALETTE.items()}


def visible_colours(background: Background, lightness_step: float = 0.0) -> list[str]:
    """Return the colours that contrast with both background colours; thin strokes also need a lightness difference."""
    behind = (lab(background.first), lab(background.second))
    return [
        colour
        for colour, own in _LAB.items()
        if all(math.dist(own, other) >= 48 and abs(own[0] - other[0]) >= lightness_step for other in behind)
    ]


def random_background(rng: random.Random, unit: float) -> Background:
    """Generate a background for a picture whose lengths are fractions of `unit` pixels."""
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
