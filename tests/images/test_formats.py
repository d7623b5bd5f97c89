"""HEIC and AVIF photos are read as any other; what cannot be read is called by its name."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from omnilmm.errors import ImageError
from omnilmm.images.formats import is_heic
from omnilmm.images.pixels import open_picture

DATA = Path(__file__).parent / "data"
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def heic(name: str) -> bytes:
    return (DATA / f"{name}.heic").read_bytes()


def is_close(image: Image.Image, at: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    return int(np.abs(np.subtract(image.getpixel(at), colour)).max()) < 12


def avif(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=95, **options)
    return buffer.getvalue()


def claiming(content: bytes, width: int, height: int) -> bytes:
    """The same file, whose box of its size says something else."""
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", width, height) + content[at + 8 :]


def branded(content: bytes, brand: bytes) -> bytes:
    """The same file with another first brand, as other cameras write it."""
    return content[:8] + brand + content[12:]


@pytest.mark.parametrize("name", ["several", "ten-bit"])
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"ABCD"])
def test_a_heic_photo_is_its_primary_picture_in_eight_bits(name: str, brand: bytes, tmp_path: Path) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(branded(heic(name), brand))
    for source in (path, path.read_bytes()):
        image = open_picture(source).image
        assert image.mode == "RGB" and image.size == (96, 64)
        assert is_close(image, (5, 32), RED) and is_close(image, (90, 32), BLUE)


def test_a_photo_is_turned_upright_once() -> None:
    """The container of a HEIC or AVIF says how to turn it, and EXIF says it again."""
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "Secret Artist"
    lying = Image.new("RGB", (96, 64), RED)
    lying.paste(BLUE, (48, 0, 96, 64))
    for content in (heic("turned"), avif(lying, exif=exif)):
        image = open_picture(content).image
        assert image.size == (64, 96)
        assert is_close(image, (32, 5), RED) and is_close(image, (32, 90), BLUE)
        assert not image.info and not image.getexif()


def test_what_is_clear_lies_over_white() -> None:
    image = open_picture(heic("clear")).image
    assert is_close(image, (5, 32), RED) and is_close(image, (90, 32), WHITE)


def test_what_a_heic_claims_is_checked_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"20000×20000.* more than the allowed 64 megapixels"):
        open_picture(claiming(heic("ten-bit"), 20_000, 20_000))
    with pytest.raises(ImageError, match="Try saving it again"):  # it says less than it holds
        open_picture(claiming(heic("ten-bit"), 16, 16))
    monkeypatch.setenv("OMNILMM_PICTURE_PROCESSES", "0")  # here, where it can be seen
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"9000×9000"):
        open_picture(claiming(heic("ten-bit"), 9_000, 9_000))


@pytest.mark.parametrize("part", [0.05, 0.4, 0.95])
def test_a_heic_or_avif_that_is_cut_off_is_one_line(part: float) -> None:
    for content in (heic("turned"), avif(Image.new("RGB", (64, 64), RED))):
        with pytest.raises(ImageError, match="Try saving it again") as error:
            open_picture(content[: max(24, int(len(content) * part))])
        assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_without_its_package_a_heic_photo_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILMM_PICTURE_PROCESSES", "0")
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match=r"HEIC photo; .* pip install pi-heif, or save the photo as JPEG\.$"):
        open_picture(heic("turned"))
    assert open_picture(avif(Image.new("RGB", (4, 4), RED))).image.size == (4, 4)


def test_pillow_itself_learns_no_new_format() -> None:
    """Only what comes through the bounded door is read by it."""
    open_picture(heic("turned"))
    assert "HEIF" not in Image.OPEN
    assert is_heic(heic("turned")) and not is_heic(avif(Image.new("RGB", (4, 4))))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(64), r"video \(MP4, MOV\)"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(64), r"video \(MP4, MOV\)"),
        (b"\xff\x0a" + bytes(64), "JPEG XL"),
        (b'\n<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"8BPS\0\x01" + bytes(64), r"Photoshop \(PSD\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git-lfs pointer .git lfs pull"),
    ],
)
def test_other_formats_are_called_by_their_name(content: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=rf"^This file is of the format {name}.*, which cannot .* Expected PNG, JPEG"):
        open_picture(content)
