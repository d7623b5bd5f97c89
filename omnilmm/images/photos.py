"""Tell photos from simple drawings by three features of the pixels.

    picture --resize, stretch the contrast, smooth--> 192 pixels --the most frequent colour is the background-->
    the inside of the objects, away from their edges --> entropy of its shades                          (shades, bits)
            --resize again--> 96 pixels --> share of pixels in the middle of a gradual change           (blends)
            --> size: in small pictures, noise and JPEG artefacts are not averaged out by resizing      (size, 0 to 1)

Objects in a simple drawing have one colour each, text has no inside, and an edge spans a pixel or two. A photo has
shades inside its objects and blends everywhere, whether its background is a landscape or the white of a studio.

The weights started from a logistic regression on the three features, fitted by Newton's method to photos and to
drawings that the built-in model knows, each unchanged, half as large, small, dark, grey and as a bad JPEG
(`tests/images/photo_figures.py`). Among the weights near that fit, these make the fewest errors over all variants while
at most one in fifty photos and one in fifty drawings, unchanged, is misclassified.
The built-in model's card lists the pictures, and the accuracy on them and on packages left out of the fit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

SIDE, SMALL_SIDE = 192, 96  # longer side in pixels for measuring shades and blends; never enlarged
LEAST_SIDE = 16
OF_SHADES, OF_BLENDS, OF_SIZE, NEEDED = 2.2, 12.0, 6.0, 15.9  # photo if the weighted sum > NEEDED
LEAST_BLENDS = 0.03  # minimum for a photo; a background with a colour gradient has shades but hardly any blends

AWAY = 24  # of 255: pixels further from the background colour are foreground
MUCH_INSIDE = 0.03  # share of the picture; the shades of a smaller inside count less
LEAST_CHANGE = 24  # of 255, within two pixels
MIDDLE = (0.2, 0.8)  # range between the darkest and the lightest pixel nearby
LEAST_CONTRAST = 64  # of 255: less contrast is not stretched fully, or a faint background would get shades
_LEAST_PIXELS = 30
_COLOUR_SHIFT, _SHADE_SHIFT = 5, 2  # 8 steps of each channel, 64 shades of lightness

Pixels = npt.NDArray[np.int16]


def looks_like_photo(image: Image.Image) -> bool:
    """Return whether a picture looks like a photo rather than a simple drawing.

    Args:
        image: RGB.
    """
    if min(image.size) < LEAST_SIDE:
        return False
    return is_photo(*figures(image))


def is_photo(shades: float, blends: float, size: float) -> bool:
    """Return whether the features from `figures` are those of a photo."""
    return blends >= LEAST_BLENDS and OF_SHADES * shades + OF_BLENDS * blends + OF_SIZE * size > NEEDED


def figures(image: Image.Image) -> tuple[float, float, float]:
    """Return the features of a picture: shades in bits (0 to 6), blends (0 to 1), size (0 to 1).

    Args:
        image: RGB.
    """
    small = shrunk(image)
    return _shades(_cleaned(small)), _blends(_cleaned(shrunk(small, SMALL_SIDE))), max(small.size) / SIDE


def shrunk(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Shrink a picture to the size at which it is measured; smaller pictures are returned as they are.

    Args:
        image: RGB.
        side: longer side in pixels.
    """
    factor = max(image.size) / side
    if factor <= 1:
        return image
    size = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _cleaned(image: Image.Image) -> Image.Image:
    """Stretch the contrast between the 1st and 99th percentile, so that dark photos count too, and remove specks."""
    pixels = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(pixels.reshape(-1, 3), (1, 99), axis=0)
    darkest = low.min()
    span = max(high.max() - darkest, LEAST_CONTRAST)
    stretched = ((pixels - darkest) * (255 / span)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(stretched).filter(ImageFilter.MedianFilter(3))


def _shades(image: Image.Image) -> float:
    """Return the entropy in bits of the lightness of all pixels more than two pixels away from the background."""
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
    """Return the share of pixels that lie in the middle of a large change of one channel."""
    pixels: Pixels = np.asarray(image, dtype=np.int16)
    most, least = (
        np.asarray(image.filter(kind(5)), dtype=np.int16) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    widest = (most - least).argmax(axis=-1)[..., None]  # per pixel, the channel that changes most
    change = np.take_along_axis(most - least, widest, -1)
    way = np.take_along_axis(pixels - least, widest, -1) / np.maximum(change, 1)
    low, high = MIDDLE
    return float(((change > LEAST_CHANGE) & (way > low) & (way < high)).mean())
