"""Photos are told from drawings, whatever was done to either; figures over many are in the built-in model's card."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from built_in.lessons import lesson_of
from omnilmm.images.photos import looks_like_photo
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import samples

PHOTOS = sorted((Path(__file__).parent / "data").glob("*.jpg"))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


DONE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "a third as large": lambda image: image.resize((image.width // 3, image.height // 3)),
    "five times as large": lambda image: image.resize((image.width * 5, image.height * 5)),
    "a bad JPEG": lambda image: jpeg(image, 25),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "dark": lambda image: image.point(lambda value: value // 4),
}
whatever_was_done = pytest.mark.parametrize("done", DONE.values(), ids=DONE)


@whatever_was_done
@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_a_photo_looks_like_one(path: Path, done: Callable[[Image.Image], Image.Image]) -> None:
    assert looks_like_photo(done(open_picture(path).image))


@whatever_was_done
def test_a_sample_does_not(done: Callable[[Image.Image], Image.Image]) -> None:
    assert [
        sample.picture.stem for sample in samples() if looks_like_photo(done(open_picture(sample.picture).image))
    ] == []


def test_of_the_drawings_that_the_built_in_model_knows_hardly_one_does() -> None:
    rng = random.Random("photo")
    drawn = [lesson_of(kind, rng).pictures[0].image for kind in ("scene", "page", "chart", "table") for _ in range(30)]
    assert sum(map(looks_like_photo, drawn)) <= 0.03 * len(drawn)


def test_a_faint_ground_that_runs_from_one_colour_to_another_is_no_photo() -> None:
    ramp = Image.linear_gradient("L").resize((600, 500))
    for faintest in (255, 60, 20):
        assert not looks_like_photo(ramp.point(lambda value: 128 + (value - 128) * faintest // 255).convert("RGB"))  # noqa: B023


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2), (8, 8)])
def test_a_picture_of_hardly_any_pixels_is_none(size: tuple[int, int]) -> None:
    assert not looks_like_photo(Image.new("RGB", size, "red"))
