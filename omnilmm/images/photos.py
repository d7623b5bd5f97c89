"""Whether a picture is a photo or a simple drawing, told from its pixels by three plain figures.

    picture --shrunk, its contrast stretched, smoothed--> 192 pixels --the commonest colour is the background-->
    the inside of its things, away from their edges --> how many shades it has                          (shades, bits)
            --shrunk once more--> 96 pixels --> share of places in the middle of a gradual change       (blends)
            --> how large it is: in small pictures noise and JPEG are not averaged away by shrinking    (size, 0 to 1)

The things in a simple drawing are of one colour each, a text has no inside, an edge is over within a pixel or two. A
photo has shades inside its things and blends everywhere, whether its ground is a landscape or the white of a studio.

The weights began as those of a logistic regression of the three figures, fitted by Newton's method to photos and to
drawings that the built-in model knows, each as it is, half as large, small, dark, grey and as a bad JPEG
(`tests/images/photo_figures.py`); of those near them, these make the fewest errors over all versions while at most one
in fifty photos and one in fifty drawings, as they are, is taken for the other.
The built-in model's card says of which pictures, and how well it works on them and on packages left out of the fit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

SIDE, SMALL_SIDE = 192, 96  # pixels of the longer side at which shades and blends are looked at; none is enlarged
LEAST_SIDE = 16
OF_SHADES, OF_BLENDS, OF_SIZE, NEEDED = 2.2, 12.0, 6.0, 15.9  # of a photo the weighted sum is more than is needed
LEAST_BLENDS = 0.03  # of a photo; a background that runs from one colour to another has shades, but hardly any blends

AWAY = 24  # of 255: further from the background's colour is no background
MUCH_INSIDE = 0.03  # share of the picture; the shades of a smaller inside count less
LEAST_CHANGE = 24  # of 255, within two pixels
MIDDLE = (0.2, 0.8)  # of the way from the darkest to the lightest nearby
LEAST_CONTRAST = 64  # of 255: with less than that it is not stretched to the full; else a faint ground gets shades
_LEAST_PIXELS = 30
_COLOUR_SHIFT, _SHADE_SHIFT = 5, 2  # 8 steps of each channel, 64 shades of lightness

Pixels = npt.NDArray[np.int16]


def looks_like_photo(image: Image.Image) -> bool:
    """Whether a picture looks like a photo, and not like a simple drawing.

    Args:
        image: RGB.
    """
    if min(image.size) < LEAST_SIDE:
        return False
    return is_photo(*figures(image))


def is_photo(shades: float, blends: float, size: float) -> bool:
    """Whether these `figures` are those of a photo."""
    return blends >= LEAST_BLENDS and OF_SHADES * shades + OF_BLENDS * blends + OF_SIZE * size > NEEDED


def figures(image: Image.Image) -> tuple[float, float, float]:
    """What a picture is judged by: shades in bits (0 to 6), blends (0 to 1), size (0 to 1).

    Args:
        image: RGB.
    """
    small = shrunk(image)
    return _shades(_cleaned(small)), _blends(_cleaned(shrunk(small, SMALL_SIDE))), max(small.size) / SIDE


def shrunk(image: Image.Image, side: int = SIDE) -> Image.Image:
    """A picture at the size at which it is judged, as large as it is if that is less; shrinking twice changes nothing.

    Args:
        image: RGB.
        side: pixels of the longer side.
    """
    factor = max(image.size) / side
    if factor <= 1:
        return image
    size = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _cleaned(image: Image.Image) -> Image.Image:
    """Without specks, the darkest hundredth black, the lightest white: a dark photo is a photo."""
    pixels = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(pixels.reshape(-1, 3), (1, 99), axis=0)
    darkest = low.min()
    span = max(high.max() - darkest, LEAST_CONTRAST)
    stretched = ((pixels - darkest) * (255 / span)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(stretched).filter(ImageFilter.MedianFilter(3))


def _shades(image: Image.Image) -> float:
    """Entropy of the lightness of what is not background nor within two pixels of it, in bits."""
    pixels: Pixels = np.asarray(image, dtype=np.int16)
    red, green, blue = np.moveaxis(pixels >> _COLOUR_SHIFT, -1, 0)
    colours = red << 6 | green << 3 | blue
    commonest = colours == np.bincount(colours.ravel()).argmax()
    things = np.abs(pixels - pixels[commonest].mean(axis=0)).max(axis=-1) > AWAY
    inside = np.asarray(Image.fromarray(things.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(5))) > 0
    if inside.sum() <= _LEAST_PIXELS:
        return 0.0
    counts = np.bincount(pixels[inside].sum(axis=-1) // 3 >> _SHADE_SHIFT)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum() * min(1.0, inside.mean() / MUCH_INSIDE))


def _blends(image: Image.Image) -> float:
    """Share of pixels near which one channel changes much, and that are themselves in the middle of the change."""
    pixels: Pixels = np.asarray(image, dtype=np.int16)
    most, least = (
        np.asarray(image.filter(kind(5)), dtype=np.int16) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    widest = (most - least).argmax(axis=-1)[..., None]  # the channel that changes most, at each place
    change = np.take_along_axis(most - least, widest, -1)
    way = np.take_along_axis(pixels - least, widest, -1) / np.maximum(change, 1)
    low, high = MIDDLE
    return float(((change > LEAST_CHANGE) & (way > low) & (way < high)).mean())
