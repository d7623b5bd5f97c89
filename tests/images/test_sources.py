"""Whatever a script has of a picture becomes the picture, or one clear line."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnilmm.conversation import Picture
from omnilmm.errors import ImageError
from omnilmm.images.sources import decoded, picture_from

COLOURS = np.arange(60 * 40 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
IMAGE = Image.fromarray(COLOURS)
PICTURE = Picture(IMAGE)


def png() -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()
TEXT = base64.b64encode(PNG).decode()
FORMS: dict[str, Any] = {
    "as it is": TEXT,
    "trailing newline": TEXT + "\n",
    "line breaks": base64.encodebytes(PNG).decode(),
    "Windows' line breaks": base64.encodebytes(PNG).decode().replace("\n", "\r\n"),
    "for URLs": base64.urlsafe_b64encode(PNG).decode(),
    "no padding": TEXT.rstrip("="),
    "bytes": TEXT.encode() + b"\n",
    "data URI": f"data:image/png;base64,{TEXT}",
    "data URI with a parameter": f"data:image/png;name=a.png;base64,{base64.encodebytes(PNG).decode()}",
    "escaped data URI": f"DATA:image/png;base64,{TEXT.replace('+', '%2B').replace('=', '%3D')}",
    "data URI without base64": "data:image/png," + "".join(f"%{byte:02X}" for byte in PNG),
    "data URI as bytes": f"data:image/png;base64,{TEXT}".encode(),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_base64_is_read_in_every_form(text: str | bytes) -> None:
    assert decoded(text) == PNG


def test_a_picture_is_taken_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(PNG)
    written = io.BytesIO()
    IMAGE.save(written, "PNG")  # and stands at its end
    given = [PICTURE, IMAGE, path, str(path), path.as_uri(), PNG, bytearray(PNG), memoryview(PNG), written, COLOURS]
    given += [TEXT.encode(), f"data:image/png;base64,{TEXT}", f"data:image/png;base64,{TEXT}".encode()]
    for source in given:
        assert picture_from(source) == PICTURE, type(source)
    with path.open("rb") as file:
        assert picture_from(file) == PICTURE and picture_from(file) == PICTURE
    assert picture_from(b"P3\n1 1\n255\n9 9 9\n").image.getpixel((0, 0)) == (9, 9, 9)  # text that is a picture


def test_arrays_are_grey_or_coloured() -> None:
    grey = COLOURS[:, :, 0]
    for array in (grey, grey[:, :, None], np.stack([grey] * 3, axis=2)):
        assert picture_from(array) == Picture(Image.fromarray(grey).convert("RGB"))
    clear = np.dstack([COLOURS, np.zeros((40, 60), np.uint8)])
    assert picture_from(clear).image.getpixel((3, 3)) == (255, 255, 255)
    assert picture_from(COLOURS[:, ::-1]) == Picture(IMAGE.transpose(Image.Transpose.FLIP_LEFT_RIGHT))  # not contiguous


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("https://example.org/a.png", r"Nothing is fetched from the network, so https://example.org/a.png"),
        (" http://127.0.0.1:1/a.png", "Nothing is fetched"),
        ("ftp://example.org/a.png", "Nothing is fetched"),
        ("nowhere.png", r"No such picture file: nowhere\.png"),
        ("data:image/png;base64,%%%", "no base64 text of a picture"),
        ("data:image/png;base64,", "empty"),
        (COLOURS / 255, r"got \[40×60×3\] of float64. Numbers from 0 to 1: \(array \* 255\)"),
        (COLOURS.astype(np.int64), "of int64. Convert it with .astype"),
        (COLOURS.transpose(2, 0, 1), r"\[3×40×60\] of uint8. Colours come last: array.transpose\(1, 2, 0\)"),
        (COLOURS[None], r"One picture at a time: array\[0\]"),
        (COLOURS[:0], r"got \[0×60×3\]"),
        (COLOURS[:, :, :2], r"got \[40×60×2\]"),
        (io.StringIO("text"), "opened as text"),
        (b"", "empty"),
        (7, "got int"),
        (None, "got NoneType"),
    ],
)
def test_anything_else_is_one_line(source: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        picture_from(source)
    assert "\n" not in str(caught.value)


def test_a_closed_file_and_one_opened_as_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with path.open(encoding="latin-1") as text, pytest.raises(ImageError, match="opened as text"):
        picture_from(text)
    with path.open("rb") as closed:
        pass
    with pytest.raises(ImageError, match="closed file"):
        picture_from(closed)
