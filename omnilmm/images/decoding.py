"""Decode a picture file to upright RGB, piece by piece, so that only the decoded picture is in memory as a whole.

    content --opened--> PIL image, size known --pieces--> upright RGB pieces, each with its position

The first frame of an animation is used, 8 bits per channel; transparency is composited over white. Time and memory are
not bounded here but by the process that runs this (`decoder`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from PIL import ExifTags, Image

from omnilmm.errors import ImageError
from omnilmm.images.formats import open_image, webp_size
from omnilmm.images.limits import Limits
from omnilmm.sentences import Sentence

PIECE_PIXELS = 1 << 20
# A progressive JPEG may have any number of scans, each over the whole picture; encoders write about ten.
SCANNED_PIXELS_PER_S = 128_000_000
TURNS = {  # EXIF orientation -> transposition that makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {5, 6, 7, 8}  # orientations whose rows become columns
ROWS_FROM_THE_END = {3, 4, 6, 7}  # orientations whose first row becomes the last row or column
COLUMNS_FROM_THE_END = {2, 3, 7, 8}  # likewise for the first column

Place = tuple[int, int]  # left, top


def opened(content: bytes, limits: Limits) -> Image.Image:
    """Open a picture without decoding it, and check its size.

    Raises:
        ImageError: The content is not in a supported format, or has too many pixels.
        Exception: Whatever Pillow raises for a damaged file.
    """
    if claimed := webp_size(content):
        check_size(claimed, limits)
    image = open_image(content)
    check_size(image.size, limits)
    pixels = image.width * image.height
    if image.format == "JPEG" and content.count(b"\xff\xda") * pixels > SCANNED_PIXELS_PER_S * limits.seconds:
        raise ImageError.of(limits.too_slow(pixels))
    return image


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Check that a picture has pixels and not too many.

    Raises:
        ImageError: It has none, or more than allowed.
    """
    width, height = size
    if width * height == 0:
        raise ImageError("no_pixels", width=width, height=height)
    if width * height > limits.pixels:
        raise ImageError.of(limits.too_many_pixels(size))


def line(error: Exception, limits: Limits, pixels: int = 0) -> Sentence:
    """Return the error message for whatever exception decoding raised.

    Args:
        error: exception of the decoder.
        limits: limits in effect.
        pixels: pixels of the picture; 0 if not known.
    """
    if isinstance(error, ImageError):
        return error.sentence
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return limits.too_many_pixels()
    if isinstance(error, MemoryError):
        return limits.too_much_memory(pixels)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Sentence("picture_damaged", reason=reason[:100])


@contextmanager
def one_line(limits: Limits) -> Iterator[None]:
    """Turn any exception within the block into an `ImageError` with a one-line message."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # struct.error, KeyError, … Pillow raises many kinds on damaged data
        raise ImageError.of(line(error, limits)) from error


def upright(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to upright RGB, without EXIF, so that exports contain no location or name."""
    image.load()
    orientation = orientation_of(image)
    whole = Image.new("RGB", upright_size(image, orientation))
    for place, piece in pieces(image, orientation):
        whole.paste(piece, place)
    return whole


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize bicubically, in two explicit passes.

    Pillow 13 chooses which pass comes first, older versions always begin with the rows; the results differ by up to two
    grey levels. The golden pixels were made with Pillow 13, so its rule is applied here with every version.
    """
    (width, height), (new_width, new_height) = image.size, size
    vertical_first = height - new_height > max(0, 2 * (width - new_width))
    between = (width, new_height) if vertical_first else (new_width, height)
    return image.resize(between, Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)


def upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Return the width and height of the upright picture."""
    width, height = image.size
    return (height, width) if orientation in SIDEWAYS else (width, height)


def pieces(image: Image.Image, orientation: int) -> Iterator[tuple[Place, Image.Image]]:
    """Yield a decoded picture piece by piece: position in the upright picture and upright RGB piece."""
    width, height = image.size
    white = _white(image)
    columns = min(width, PIECE_PIXELS)
    rows = PIECE_PIXELS // columns
    for top, left in product(range(0, height, rows), range(0, width, columns)):
        right, bottom = min(left + columns, width), min(top + rows, height)
        piece = _rgb(image.crop((left, top, right, bottom)), white)
        if orientation in TURNS:
            piece = piece.transpose(TURNS[orientation])
        x = width - right if orientation in COLUMNS_FROM_THE_END else left
        y = height - bottom if orientation in ROWS_FROM_THE_END else top
        yield (y, x) if orientation in SIDEWAYS else (x, y), piece


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or the EXIF is damaged, as the picture may be fine."""
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # struct.error, KeyError, … for damaged EXIF
        return 1
    return orientation if orientation in TURNS else 1


def _white(image: Image.Image) -> float | None:
    """Return the white level of 16- and 32-bit grey, which Pillow's own conversion clips; None for other modes."""
    if image.mode.startswith("I"):
        return 65535.0
    if image.mode.startswith("F"):
        _, most = image.getextrema()
        return float(most) if isinstance(most, float) and 1.0 < most < float("inf") else 1.0
    return None


def _rgb(piece: Image.Image, white: float | None) -> Image.Image:
    if white is not None:
        import numpy as np  # rarely needed and slow to import

        values = np.nan_to_num(np.asarray(piece).astype(np.float64))
        piece = Image.fromarray((values.clip(0, white) / white * 255).round().astype(np.uint8))
    if piece.has_transparency_data:
        rgba = piece.convert("RGBA")
        piece = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return piece.convert("RGB")
