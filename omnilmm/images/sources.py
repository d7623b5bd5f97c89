"""Load pictures given as path, file, bytes, base64, data URI, PIL image or numpy array.

Paths are opened, so use this for trusted scripts only, not for input from clients. Nothing is fetched from the network.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from omnilmm.conversation import Picture
from omnilmm.errors import ImageError
from omnilmm.images.pixels import open_picture
from omnilmm.sentences import Sentence

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")  # at least two letters: C:\ is a drive
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_PNM = re.compile(rb"P[1-6]\s")  # the text form of PNM may look like base64


def picture_from(source: Any) -> Picture:
    """Load a picture from any supported source.

    Args:
        source: a `Picture`, a PIL image, a numpy array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8 (grey, RGB,
            RGBA), a `Path` or the path as text, a data URI, the bytes of a file, base64 bytes, or an open binary file.

    Raises:
        ImageError: The source is of no supported type, or cannot be decoded.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        return open_picture(Image.fromarray(_pixels(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        return open_picture(decoded(content) if _is_base64(content) else content)
    if isinstance(source, str):
        return picture_at(source)
    if callable(getattr(source, "read", None)):
        return open_picture(_read(source))
    if isinstance(source, Path | Image.Image):
        return open_picture(source)
    raise ImageError("no_picture_source", kind=type(source).__name__)


def picture_at(address: str) -> Picture:
    """Load a picture from a data URI, a path or a file URI.

    Raises:
        ImageError: The address is on the network, or the picture cannot be decoded.
    """
    scheme = _SCHEME.match(address.strip())
    if scheme is None:
        return open_picture(Path(address))
    if scheme[1].lower() == "data":
        return open_picture(decoded(address))
    if scheme[1].lower() == "file":
        return open_picture(Path(url2pathname(urlsplit(address.strip()).path)))
    raise ImageError("picture_on_network", address=address.strip()[:80])


def decoded(text: str | bytes) -> bytes:
    """Decode base64 text, also with line breaks, in the URL-safe alphabet, or as a data URI.

    Raises:
        ImageError: The text is not base64.
    """
    content = text.encode("utf-8", "replace") if isinstance(text, str) else text
    head, comma, body = content.lstrip().partition(b",")
    if head[:5].lower() == b"data:" and comma:
        if not head.lower().rstrip().endswith(b";base64"):
            return unquote_to_bytes(body)
        content = unquote_to_bytes(body)
    content = b"".join(content.split())
    try:
        whole = content.rstrip(b"=") + b"=" * (-len(content.rstrip(b"=")) % 4)
        return base64.b64decode(whole.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except binascii.Error as error:
        raise ImageError("no_base64", begin=repr(content[:20])) from error


def _is_base64(content: bytes) -> bool:
    if _PNM.match(content):
        return False
    return content.lstrip()[:5].lower() == b"data:" or bool(_BASE64.fullmatch(b"".join(content.split())))


def _read(file: Any) -> bytes:
    """Read an open file from its start, as Pillow does: a file just written to is positioned at its end."""
    try:
        if file.seekable():
            file.seek(0)
        content = file.read()
    except (AttributeError, OSError, ValueError) as error:
        raise ImageError("file_closed", reason=error) from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ImageError("file_opened_as_text", kind=type(content).__name__)
    return bytes(content)


def _pixels(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Check an array and return it as [H, W], [H, W, 3] or [H, W, 4]."""
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not is_picture or not array.size:
        shape = "×".join(map(str, array.shape))
        raise ImageError("no_picture_array", shape=shape, dtype=array.dtype, hint=_way_out(array))
    return np.ascontiguousarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _way_out(array: np.ndarray[Any, Any]) -> Sentence:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        return Sentence("colours_come_last")
    if array.ndim == 4:
        return Sentence("one_picture_at_a_time")
    if array.dtype.kind == "f":
        return Sentence("from_0_to_1")
    return Sentence("convert_to_uint8") if array.dtype != np.uint8 else Sentence("pillow_converts")
