"""Whether a picture is a photo or a simple drawing, told from its pixels by three plain figures.

    picture --shrunk, its contrast stretched, smoothed--> 192 pixels --the commonest colour is the background-->
    the inside of its things, away from their edges --> how much of the picture that is, how many shades it has, and
    whether they only run smoothly into each other

The things in a simple drawing are of one colour each, and a text has no inside; a photo has an inside full of shades,
whether its ground is a landscape or the white of a studio. A
background that runs from one colour to another is smooth. How well that works stands in the built-in model's card.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

SIDE = 192  # pixels of the longer side at which a picture is judged; smaller ones stay as they are
LEAST_SIDE = 16
LEAST_INSIDE = 0.035  # share of the picture that is inside of things; dense print has up to 0.034
LEAST_SHADES = 3.92  # bits: as many as of 15 shades that are equally frequent
LEAST_SHADES_SMALL = 4.5  # where noise and JPEG are not averaged away by shrinking
SMALL = 144  # pixels of the longer side
MOST_SMOOTH = 0.95  # share of the inside in which nothing changes within two pixels
LEAST_CHANGE = 14  # of 255
LEAST_CONTRAST = 24  # of 255: with less than that it is not stretched to the full
MOST_THINGS = 0.65  # share of the picture beside a background
AWAY = 24  # of 255: further from the background's colour is no background
_COLOUR_SHIFT, _SHADE_SHIFT = 5, 2  # 8 steps of each channel, 64 shades of lightness

Pixels = npt.NDArray[np.int32]


def looks_like_photo(image: Image.Image) -> bool:
    """Whether a picture looks like a photo, and not like a simple drawing.

    Args:
        image: RGB.
    """
    if min(image.size) < LEAST_SIDE:
        return False
    small = _stretched(_shrunk(image)).filter(ImageFilter.MedianFilter(3))
    pixels = np.asarray(small, dtype=np.int32)
    inside = _inside(pixels)
    if inside.mean() < LEAST_INSIDE or _changes(small)[inside].mean() < 1 - MOST_SMOOTH:
        return False
    least = LEAST_SHADES if max(image.size) >= SMALL else LEAST_SHADES_SMALL
    return _bits(pixels[inside].sum(axis=-1) // 3 >> _SHADE_SHIFT) >= least


def _shrunk(image: Image.Image) -> Image.Image:
    factor = max(image.size) / SIDE
    if factor <= 1:
        return image
    size = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _stretched(image: Image.Image) -> Image.Image:
    """The darkest hundredth black, the lightest white: a dark photo is a photo."""
    pixels = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(pixels.reshape(-1, 3), (1, 99), axis=0)
    darkest = low.min()
    span = max(high.max() - darkest, LEAST_CONTRAST)
    return Image.fromarray(((pixels - darkest) * (255 / span)).clip(0, 255).astype(np.uint8))


def _inside(pixels: Pixels) -> npt.NDArray[np.bool_]:
    """What is not of the commonest colour, nor within two pixels of it: [H, W] of [H, W, 3].

    Where that colour is no background but one of many everywhere, as in a heap of grains, the two pixels do not count.
    """
    red, green, blue = np.moveaxis(pixels >> _COLOUR_SHIFT, -1, 0)
    colours = red << 6 | green << 3 | blue
    commonest = colours == np.bincount(colours.ravel()).argmax()
    background = pixels[commonest].mean(axis=0)
    things = np.abs(pixels - background).max(axis=-1) > AWAY
    if things.mean() > MOST_THINGS:
        return things
    return np.asarray(Image.fromarray(things.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(5))) > 0


def _changes(image: Image.Image) -> npt.NDArray[np.bool_]:
    """Where something changes within two pixels, [H, W]."""
    most, least = (
        np.asarray(image.filter(kind(5)), np.int16) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    return np.asarray((most - least).max(axis=-1) > LEAST_CHANGE)


def _bits(values: Pixels) -> float:
    """Entropy of some values; 0 of none."""
    counts = np.bincount(values) if values.size else np.ones(1)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
