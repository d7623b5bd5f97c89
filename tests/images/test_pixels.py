"""Any file becomes an upright RGB picture or a clear error; and from there on the pixels are the published ones."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnilmm.archive import to_json
from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import ImageError, InputError
from omnilmm.images import decoding
from omnilmm.images.limits import limits
from omnilmm.images.pixels import cut, open_picture, patch_strip, stack_strips
from omnilmm.images.slicing import SlicePlan, SlicingRules, plan_slices

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION, GPS = 0x0112, 0x8825


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_red_half_blue(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes: an honest header, and no image data that could be decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# What can be opened


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_every_format_that_the_error_promises_is_read(kind: str) -> None:
    picture = open_picture(encoded(half_red_half_blue(), kind))
    assert picture.image.mode == "RGB" and picture.image.size == (40, 20)
    left, right = picture.image.getpixel((5, 10)), picture.image.getpixel((35, 10))
    assert np.abs(np.subtract(left, RED)).max() < 40 and np.abs(np.subtract(right, BLUE)).max() < 40


def test_the_same_picture_comes_from_a_path_bytes_a_file_and_a_pil_image(tmp_path: Path) -> None:
    content = encoded(half_red_half_blue())
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with path.open("rb") as file:
        opened = [open_picture(source) for source in (path, str(path), content, file, half_red_half_blue())]
    assert len({picture.digest for picture in opened}) == 1


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(half_red_half_blue()))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_picture("~/a.png").image.size == (40, 20)


def test_a_pil_image_is_not_changed() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.info["note"] = "mine"
    open_picture(image).image.putpixel((0, 0), BLUE)
    assert image.mode == "RGBA" and image.getpixel((0, 0)) == (255, 0, 0, 0) and image.info == {"note": "mine"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"])
def test_every_pil_mode_becomes_rgb(mode: str) -> None:
    assert open_picture(Image.new(mode, (3, 2))).image.mode == "RGB"


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        assert np.abs(np.subtract(open_picture(content).image.getpixel((4, 4)), RED)).max() < 10, kind


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.new("RGBA", (2, 2), (255, 0, 0, 0)), WHITE),
        (lambda: Image.new("RGBA", (2, 2), (255, 0, 0, 255)), RED),
        (lambda: Image.new("RGBA", (2, 2), (255, 0, 0, 127)), (255, 128, 128)),
        (lambda: Image.new("LA", (2, 2), (0, 0)), WHITE),
        (lambda: _palette_with_transparency(), WHITE),
        (lambda: _with_info(Image.new("RGB", (2, 2), RED), transparency=RED), WHITE),
        (lambda: _with_info(Image.new("L", (2, 2), 7), transparency=7), WHITE),
    ],
    ids=["clear", "opaque", "half", "grey", "palette", "one-colour", "one-grey"],
)
def test_transparency_lies_over_white(make: Callable[[], Image.Image], expected: tuple[int, int, int]) -> None:
    assert open_picture(make()).image.getpixel((0, 0)) == expected
    assert open_picture(encoded(make())).image.getpixel((0, 0)) == expected


def test_cmyk_jpeg_keeps_its_colour() -> None:
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = open_picture(content).image.getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.array([[0, 16_448, 32_896, 65_535]], dtype=np.uint16)
    image = open_picture(encoded(Image.fromarray(ramp))).image
    assert np.asarray(image)[0].tolist() == [[value] * 3 for value in (0, 64, 128, 255)]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 0.25, 0.5], [0, 64, 128]),
        ([0, 100, 200], [0, 128, 255]),
        ([-5, 1, 2], [0, 128, 255]),
        ([np.nan, 0.5, 1], [0, 128, 255]),
        ([0, 0.5, np.inf], [0, 128, 255]),
    ],
    ids=["to 1", "below 1", "beyond 1", "below 0", "no number", "infinite"],
)
def test_fractions_are_scaled_to_1_or_to_the_brightest(values: list[float], shown: list[int]) -> None:
    image = open_picture(Image.fromarray(np.array([values], np.float32))).image
    assert np.asarray(image)[0].tolist() == [[value] * 3 for value in shown]


def test_a_rotated_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored lying on its side: the left edge is the top
    image = open_picture(encoded(half_red_half_blue(), "JPEG", exif=exif, quality=95)).image
    assert image.size == (20, 40)
    assert np.abs(np.subtract(image.getpixel((10, 4)), RED)).max() < 10
    assert np.abs(np.subtract(image.getpixel((10, 36)), BLUE)).max() < 10


def test_place_and_names_in_the_file_do_not_travel_on() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x013B] = "Secret Artist"
    exif[GPS] = {1: "N", 2: (48.0, 8.0, 0.0)}
    for kind in ("JPEG", "PNG", "WEBP"):
        picture = open_picture(encoded(half_red_half_blue(), kind, exif=exif, xmp=b"<x>Secret</x>"))
        assert not picture.image.info and not picture.image.getexif()
        assert b"Secret" not in encoded(picture.image, kind)
        assert "Secret" not in to_json(Conversation().with_message("user", picture, "?"))


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ((0x010F, 3, 1), (20, 40)),  # a camera's name that is a number
        ((0x0102, 1, 2), (20, 40)),  # bits per sample as bytes
        ((0x011A, 7, 1), (20, 40)),  # a resolution that is no fraction
    ],
    ids=["name", "bits", "resolution"],
)
def test_strange_camera_data_does_not_spoil_a_good_photo(entry: tuple[int, int, int], size: tuple[int, int]) -> None:
    entries = [struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0), struct.pack("<HHI4s", *entry, b"\x06\0\0\0")]
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    assert open_picture(encoded(half_red_half_blue(), "JPEG", exif=exif)).image.size == size


@pytest.mark.parametrize("size", [(1, 1), (30, 2000), (2000, 30), (1, 700)])
def test_extreme_proportions_are_seen(size: tuple[int, int]) -> None:
    picture = open_picture(encoded(Image.new("RGB", size, RED)))
    views = cut(picture.image, plan_slices(size, SlicingRules()))
    strips = stack_strips([patch_strip(view, 14) for view in views])
    assert strips.shape[:3] == (len(views), 3, 14) and strips.shape[3] % 14 == 0 and strips.shape[3] > 0


# What cannot be opened: one clear line that says what to do


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "0 bytes"),
        (b"Dear diary, this is no picture.\n" * 20, "Expected PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "Expected PNG, JPEG"),
        (b"%PDF-1.7\n" + bytes(200), "Expected PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "Expected PNG, JPEG"),  # no external programs
        (encoded(half_red_half_blue((200, 100)), "JPEG")[:800], "Try saving it again"),
        (encoded(half_red_half_blue((200, 100)))[:150], "Try saving it again"),
        (encoded(half_red_half_blue(), "AVIF").replace(b"pitm", b"xxxx"), "Try saving it again"),
    ],
    ids=["empty", "text", "signature", "pdf", "postscript", "cut-jpeg", "cut-png", "broken-avif"],
)
def test_what_is_no_picture_says_what_to_do(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "renamed.png"
    path.write_bytes(content)
    for source in (content, path, io.BytesIO(content)):
        with pytest.raises(ImageError, match=expected) as caught:
            open_picture(source)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_a_damaged_picture_says_so_as_a_pil_image_too() -> None:
    lazy = Image.open(io.BytesIO(encoded(half_red_half_blue((200, 100)), "JPEG")[:800]))
    with pytest.raises(ImageError, match="Try saving it again"):
        open_picture(lazy)


@pytest.mark.parametrize("size", [(20_000, 20_000), (10_000, 10_000), (9_000, 9_000)], ids=lambda size: str(size[0]))
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_too_many_pixels_are_refused_before_anything_is_decoded(size: tuple[int, int], action: str) -> None:
    """There is no image data: whoever tried to decode it would find the file damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ImageError, match="more than the allowed 64 megapixels"):
            open_picture(png_that_claims(*size))
    with pytest.raises(ImageError, match="Try saving it again"):
        open_picture(png_that_claims(7_000, 7_000))  # within the limit it is decoded, and so found out


def test_a_pil_image_of_too_many_pixels_is_refused_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = Image.open(io.BytesIO(png_that_claims(10_000, 10_000)))
    with pytest.raises(ImageError, match="10000×10000"):
        open_picture(lazy)


def test_a_pil_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        open_picture(Image.new("RGB", (0, 5)))


def test_too_many_bytes_are_refused_without_reading_them_all() -> None:
    asked: list[int] = []

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            asked.append(size)
            return bytes(size)

    with pytest.raises(ImageError, match="larger than 64 MB"):
        open_picture(Endless())
    assert asked == [limits().file_bytes + 1]


def test_the_bounds_themselves_are_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of exactly so many bytes, a picture of exactly so many pixels; one more is too much."""
    monkeypatch.setenv("OMNILMM_PICTURE_FILE_MB", "1")
    largest = encoded(half_red_half_blue()).ljust(2**20, b"\0")
    path = tmp_path / "a.png"
    for content in (largest, largest + b"\0"):
        path.write_bytes(content)
        for source in (content, path, io.BytesIO(content)):
            if content is largest:
                assert open_picture(source).image.size == (40, 20)
            else:
                with pytest.raises(ImageError, match="larger than 1 MB"):
                    open_picture(source)
    decoding.check_size((8_000, 8_000), limits())
    with pytest.raises(ImageError, match="more than the allowed 64 megapixels"):
        decoding.check_size((8_000, 8_001), limits())


@pytest.mark.parametrize("name", ["nowhere.png", "a\0b.png", "~nobody-of-that-name/a.png", "a" * 5000])
def test_a_path_without_a_file_is_named(name: str) -> None:
    with pytest.raises(ImageError, match="No such picture file") as caught:
        open_picture(name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("name", "said"), [(".", "is a folder"), ("", "The name of the picture file is empty")])
def test_a_folder_is_no_picture_file(name: str, said: str) -> None:
    with pytest.raises(ImageError, match=f"{said}: give the path of a picture file"):
        open_picture(name)


@pytest.mark.parametrize("thing", [np.zeros((4, 4, 3), np.uint8), 7, None], ids=["array", "number", "nothing"])
def test_other_things_are_refused_with_what_is_expected(thing: Any) -> None:
    with pytest.raises(InputError, match="path"):
        open_picture(thing)


# From a picture to what the tower takes


def test_equal_pixels_have_equal_digests_whatever_the_file() -> None:
    image = half_red_half_blue()
    assert open_picture(encoded(image, "PNG")) == open_picture(encoded(image, "BMP"))
    assert open_picture(image) != open_picture(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert Picture(Image.new("RGB", (2, 8))) != Picture(Image.new("RGB", (8, 2)))
    large = Image.effect_noise((1025, 2050), 90).convert("RGB")
    assert Picture(large).digest == hashlib.sha256(b"(1025, 2050)" + large.tobytes()).hexdigest()


def test_views_are_the_overview_and_then_the_slices() -> None:
    plan = SlicePlan(overview=(28, 14), grid=(2, 1), refined=(56, 28))
    overview, left, right = cut(half_red_half_blue(), plan)
    assert overview.size == (28, 14) and left.size == right.size == (28, 28)
    assert left.getpixel((5, 14)) == RED and right.getpixel((22, 14)) == BLUE


def test_a_strip_holds_the_patches_row_by_row() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    for row in range(2):
        for column in range(3):
            pixels[row * 2 : row * 2 + 2, column * 2 : column * 2 + 2] = row * 3 + column
    strip = patch_strip(Image.fromarray(pixels), 2)
    assert strip.shape == (3, 2, 12) and strip.dtype == np.float32
    for patch in range(6):
        assert np.allclose(strip[..., patch * 2 : patch * 2 + 2], patch / 255 * 2 - 1)


def test_pixels_span_minus_one_to_one() -> None:
    assert np.all(patch_strip(Image.new("RGB", (14, 14), "black"), 14) == -1)
    assert np.all(patch_strip(Image.new("RGB", (14, 14), "white"), 14) == 1)


def test_shorter_strips_are_padded_with_zeros_on_the_right() -> None:
    short, long = np.ones((3, 2, 2), np.float32), np.ones((3, 2, 6), np.float32)
    stacked = stack_strips([short, long])
    assert stacked.shape == (2, 3, 2, 6)
    assert np.all(stacked[0, ..., :2] == 1) and np.all(stacked[0, ..., 2:] == 0) and np.all(stacked[1] == 1)


def _palette_with_transparency() -> Image.Image:
    image = Image.new("P", (2, 2), 3)
    image.putpalette([9] * 768)
    return _with_info(image, transparency=3)


def _with_info(image: Image.Image, **info: object) -> Image.Image:
    image.info.update(info)
    return image
