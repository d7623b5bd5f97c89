"""From any picture file to the pixels a vision tower sees.

`N` views (overview first, then slices) · `P` patch side · `n` patches of one view

    source --open_picture--> RGB picture --cut--> N views --patch_strip--> [3, P, P·n] each, in -1..1

Decoding is defensive: bounded in bytes and pixels before anything is decoded, only picture formats, no external
programs. Source of the resizing and normalisation: MiniCPM-V 2.0–2.6 (bicubic on 8-bit RGB, mean and std 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from omnilmm.conversation import Picture
from omnilmm.errors import ImageError
from omnilmm.images.formats import open_image
from omnilmm.images.slicing import Size, SlicePlan

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 64_000_000  # a 50-megapixel phone photo fits; decoded it takes 192 MB

TURNS = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """(pixel / 255 - mean) / std, one number per colour."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # MiniCPM-V
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # OmniLMM-12B


def open_picture(source: str | Path | bytes | BinaryIO | Image.Image) -> Picture:
    """Decode a picture: upright, RGB, 8 bit; the first frame of an animation; alpha over white.

    Args:
        source: a path, the file's bytes, an open binary file, or a PIL image.

    Raises:
        ImageError: Not a picture, damaged, or larger than `MAX_FILE_BYTES` or `MAX_PIXELS`.
    """
    try:
        if isinstance(source, Image.Image):
            _check_pixels(source)
            return Picture(_to_rgb(source))
        with open_image(_read(source)) as image:
            _check_pixels(image)
            image.load()
            return Picture(_to_rgb(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_many_pixels(None)) from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImageError(f"This picture is damaged and cannot be decoded ({reason}). Try saving it again.") from error


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    """The file's bytes, never more than `MAX_FILE_BYTES`."""
    if isinstance(source, str | Path):
        content = _read_file(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif hasattr(source, "read"):
        content = source.read(MAX_FILE_BYTES + 1)
    else:
        raise ImageError(f"A picture is a path, bytes, an open file or a PIL image; got {type(source).__name__}.")
    if not content:
        raise ImageError("This picture file is empty (0 bytes).")
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(too_large(MAX_FILE_BYTES // 2**20))
    return content


def too_large(most_mib: int) -> str:
    """What is said of a picture file of more bytes than are taken."""
    return f"This picture file is larger than {most_mib} MB. Save it smaller and try again."


def _read_file(source: str | Path) -> bytes:
    try:
        path = Path(source).expanduser()
        if path.is_file():
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"No such picture file that can be read: {str(source)[:100]} ({reason}).") from error
    if path.is_dir():
        named = f"{path} is a folder" if str(source) else "The name of the picture file is empty"
        raise ImageError(f"{named}: give the path of a picture file.")
    raise ImageError(f"No such picture file: {path}.")


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height == 0:
        raise ImageError(f"This picture has no pixels ({width}×{height}).")
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(image.size))


def _too_many_pixels(size: tuple[int, int] | None) -> str:
    of_size = f" ({size[0]}×{size[1]})" if size else ""
    return (
        f"This picture{of_size} has more than the allowed {MAX_PIXELS // 1_000_000} megapixels. "
        "Save it smaller and try again."
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    image = _upright(image)
    if image.mode.startswith(("I", "F")):  # 16- and 32-bit grey: Pillow's own conversion clips instead of scaling
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(float(values.max(initial=0.0)), 1.0)
        image = Image.fromarray((values.clip(0, top) / top * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    rgb = image.convert("RGB")
    rgb.info.clear()  # no EXIF place or name travels on with an export
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    """As the camera was held. Pillow's own `exif_transpose` rewrites all of the EXIF, and fails where it is odd."""
    image.load()
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image.copy() if turn is None else image.transpose(turn)


def _resize(image: Image.Image, size: Size) -> Image.Image:
    """Bicubic, in two explicit passes.

    Pillow 13 chooses which pass comes first, older ones always begin with the rows; the results differ by up to two
    grey levels. The golden pixels were made with Pillow 13, so its rule is fixed here for every version.
    """
    (width, height), (new_width, new_height) = image.size, size
    vertical_first = height - new_height > max(0, 2 * (width - new_width))
    between = (width, new_height) if vertical_first else (new_width, height)
    return image.resize(between, Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)


def cut(image: Image.Image, plan: SlicePlan) -> list[Image.Image]:
    """The views of a picture, overview first, then the slices row by row."""
    views = [_resize(image, plan.overview)]
    if plan.refined is not None:
        refined = _resize(image, plan.refined)
        views += [refined.crop(box) for box in plan.boxes]
    return views


def patch_strip(view: Image.Image, patch_size: int, normalisation: Normalisation = HALF) -> Floats:
    """Normalised pixels of one view as a strip of its patches, row-major: [3, P, P·n] float32."""
    mean, std = np.array(normalisation.mean, np.float32), np.array(normalisation.std, np.float32)
    pixels: Floats = (np.asarray(view, dtype=np.float32) / np.float32(255) - mean) / std
    rows, columns = view.height // patch_size, view.width // patch_size
    patches = pixels.reshape(rows, patch_size, columns, patch_size, 3)
    return patches.transpose(4, 1, 0, 2, 3).reshape(3, patch_size, -1)


def stack_strips(strips: list[Floats]) -> Floats:
    """Strips of different lengths as one array [N, 3, P, P·L], zeros at the right end of the shorter ones."""
    longest = max(strip.shape[-1] for strip in strips)
    stacked = np.zeros((len(strips), *strips[0].shape[:2], longest), dtype=np.float32)
    for row, strip in zip(stacked, strips, strict=True):
        row[..., : strip.shape[-1]] = strip
    return stacked
