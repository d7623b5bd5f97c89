"""The content of a picture file becomes upright RGB, in pieces: only the picture itself is in memory as a whole.

    content --opened--> PIL image, size known --pieces--> upright RGB pieces, each with its place

The first frame of an animation counts, 8 bits per colour, what is clear lies over white. Nothing here is bounded in
time or memory; that is the work of the process that runs it (`decoder`).
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
# A JPEG may come in many scans, each of which goes over the whole picture; encoders make ten or so.
SCANNED_PIXELS_PER_S = 128_000_000
TURNS = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {5, 6, 7, 8}  # whose rows become columns
ROWS_FROM_THE_END = {3, 4, 6, 7}  # whose first row becomes the last row or column
COLUMNS_FROM_THE_END = {2, 3, 7, 8}

Place = tuple[int, int]  # left, top


def opened(content: bytes, limits: Limits) -> Image.Image:
    """A picture that is not decoded yet, of a size that is allowed.

    Raises:
        ImageError: No picture that is read here, or of too many pixels.
        Exception: Whatever Pillow raises of a damaged one.
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
    """Refuse a picture without pixels, or with too many.

    Raises:
        ImageError: It is one.
    """
    width, height = size
    if width * height == 0:
        raise ImageError("no_pixels", width=width, height=height)
    if width * height > limits.pixels:
        raise ImageError.of(limits.too_many_pixels(size))


def line(error: Exception, limits: Limits, pixels: int = 0) -> Sentence:
    """What is said of a picture at which the decoder failed, whatever it raised.

    Args:
        error: that it raised.
        limits: that held.
        pixels: of the picture, as far as they were known.
    """
    if isinstance(error, ImageError):
        return error.sentence
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return limits.too_many_pixels()
    if isinstance(error, MemoryError):
        return limits.too_much_memory(pixels)
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Sentence("picture_damaged", reason=said[:100])


@contextmanager
def one_line(limits: Limits) -> Iterator[None]:
    """Whatever is raised within becomes an `ImageError` of one line."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # struct.error, KeyError, … whatever Pillow comes upon in damaged data
        raise ImageError.of(line(error, limits)) from error


def upright(image: Image.Image) -> Image.Image:
    """A picture of any mode as upright RGB, a new one without EXIF: no place or name travels on with an export."""
    image.load()
    orientation = orientation_of(image)
    whole = Image.new("RGB", upright_size(image, orientation))
    for place, piece in pieces(image, orientation):
        whole.paste(piece, place)
    return whole


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bicubic, in two explicit passes.

    Pillow 13 chooses which pass comes first, older ones always begin with the rows; the results differ by up to two
    grey levels. The golden pixels were made with Pillow 13, so its rule is fixed here for every version.
    """
    (width, height), (new_width, new_height) = image.size, size
    vertical_first = height - new_height > max(0, 2 * (width - new_width))
    between = (width, new_height) if vertical_first else (new_width, height)
    return image.resize(between, Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)


def upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Width and height once it is turned."""
    width, height = image.size
    return (height, width) if orientation in SIDEWAYS else (width, height)


def pieces(image: Image.Image, orientation: int) -> Iterator[tuple[Place, Image.Image]]:
    """A decoded picture piece by piece: upright RGB, and where in the whole it belongs."""
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
    """How the camera was held, 1 to 8; 1 where the EXIF does not say it, or is damaged: the picture may be fine."""
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # struct.error, KeyError, … of data from anywhere
        return 1
    return orientation if orientation in TURNS else 1


def _white(image: Image.Image) -> float | None:
    """The value that is white in 16- and 32-bit grey, which Pillow's own conversion clips; None for other modes."""
    if image.mode.startswith("I"):
        return 65535.0
    if image.mode.startswith("F"):
        _, most = image.getextrema()
        return float(most) if isinstance(most, float) and 1.0 < most < float("inf") else 1.0
    return None


def _rgb(piece: Image.Image, white: float | None) -> Image.Image:
    if white is not None:
        import numpy as np  # rarely needed, and takes a while to import

        values = np.nan_to_num(np.asarray(piece).astype(np.float64))
        piece = Image.fromarray((values.clip(0, white) / white * 255).round().astype(np.uint8))
    if piece.has_transparency_data:
        rgba = piece.convert("RGBA")
        piece = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return piece.convert("RGB")
