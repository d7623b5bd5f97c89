"""Decode picture files and preprocess them to the pixel input of a vision tower.

`N` views (overview first, then slices) · `P` patch side · `n` patches of one view

    source --open_picture--> RGB picture --cut--> N views --patch_strip--> [3, P, P·n] each, in -1..1

Decoding is defensive: only picture formats, no external programs, bytes and pixels checked before anything is decoded,
and files are decoded in a subprocess with bounded memory and time (`decoder`).

Source of the resizing and normalisation: MiniCPM-V 2.0–2.6 (bicubic on 8-bit RGB, mean and std 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from omnilmm.conversation import Picture
from omnilmm.errors import ImageError
from omnilmm.images.decoder_pool import decode
from omnilmm.images.decoding import check_size, one_line, resize, upright
from omnilmm.images.limits import limits, too_large
from omnilmm.images.slicing import SlicePlan

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of pixels: (pixel / 255 - mean) / std, one number per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # MiniCPM-V
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # OmniLMM-12B


def open_picture(source: str | Path | bytes | BinaryIO | Image.Image) -> Picture:
    """Decode a picture: upright, RGB, 8 bit; the first frame of an animation; alpha over white.

    Args:
        source: a path, the file's bytes, an open binary file, or a PIL image.

    Raises:
        ImageError: Not a picture, damaged, or over a limit on bytes, pixels, time or memory; see `limits`.
    """
    bounds = limits()
    if not isinstance(source, Image.Image):
        return Picture(decode(_read(source, bounds.file_bytes), bounds))
    with one_line(bounds):
        check_size(source.size, bounds)
        return Picture(upright(source))


def _read(source: str | Path | bytes | BinaryIO, most_bytes: int) -> bytes:
    """Return the bytes of the file; raise an `ImageError` if there are more than `most_bytes`."""
    if isinstance(source, str | Path):
        content = _read_file(source, most_bytes)
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif hasattr(source, "read"):
        content = source.read(most_bytes + 1)
    else:
        raise ImageError("no_picture_to_open", kind=type(source).__name__)
    if not content:
        raise ImageError("picture_empty")
    if len(content) > most_bytes:
        raise ImageError.of(too_large(most_bytes // 2**20))
    return content


def _read_file(source: str | Path, most_bytes: int) -> bytes:
    try:
        path = Path(source).expanduser()
        if path.is_file():
            with path.open("rb") as file:
                return file.read(most_bytes + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError("picture_file_unreadable", path=str(source)[:100], reason=reason) from error
    if path.is_dir():
        raise ImageError("folder_instead_of_picture", path=path) if str(source) else ImageError("picture_name_empty")
    raise ImageError("no_picture_file", path=path)


def cut(image: Image.Image, plan: SlicePlan) -> list[Image.Image]:
    """Slice a picture into its views: the overview first, then the slices row by row."""
    views = [resize(image, plan.overview)]
    if plan.refined is not None:
        refined = resize(image, plan.refined)
        views += [refined.crop(box) for box in plan.boxes]
    return views


def patch_strip(view: Image.Image, patch_size: int, normalisation: Normalisation = HALF) -> Floats:
    """Return the normalised pixels of one view as a strip of its patches, row-major: [3, P, P·n] float32."""
    mean, std = np.array(normalisation.mean, np.float32), np.array(normalisation.std, np.float32)
    pixels: Floats = (np.asarray(view, dtype=np.float32) / np.float32(255) - mean) / std
    rows, columns = view.height // patch_size, view.width // patch_size
    patches = pixels.reshape(rows, patch_size, columns, patch_size, 3)
    return patches.transpose(4, 1, 0, 2, 3).reshape(3, patch_size, -1)


def stack_strips(strips: list[Floats]) -> Floats:
    """Stack strips of different lengths into one array [N, 3, P, P·L], shorter ones zero-padded on the right."""
    longest = max(strip.shape[-1] for strip in strips)
    stacked = np.zeros((len(strips), *strips[0].shape[:2], longest), dtype=np.float32)
    for row, strip in zip(stacked, strips, strict=True):
        row[..., : strip.shape[-1]] = strip
    return stacked
