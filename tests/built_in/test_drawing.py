"""A scene is drawn the same each time, and everything where the scene says."""

import random
from dataclasses import replace

import numpy as np
import pytest

from built_in.charts import random_chart
from built_in.drawing import draw
from built_in.outlines import KINDS, OUTLINES
from built_in.palette import BACKGROUNDS, Background
from built_in.scenes import Panel, Scene, Shape
from tests.built_in.ink import WHITE, box_of_ink, clean, ink


def test_same_scene_same_pixels(scenes: list[Scene]) -> None:
    for scene in scenes[:40]:
        picture = draw(scene)
        assert picture.tobytes() == draw(scene).tobytes()
        assert picture.size == (scene.width, scene.height)
        assert picture.mode == "RGB"


def test_another_seed_is_another_noise(scenes: list[Scene]) -> None:
    noisy = next(scene for scene in scenes if scene.noise)
    assert draw(noisy).tobytes() != draw(replace(noisy, seed=noisy.seed + 1)).tobytes()


def test_shape_ink_lies_within_its_circle_and_reaches_it(scenes: list[Scene]) -> None:
    for scene in scenes[:150]:
        for shape in scene.shapes[:2]:
            drawn = ink(replace(scene, panels=(), shapes=(shape,), labels=())) > 0.5
            ys, xs = np.nonzero(drawn)
            distances = np.hypot(xs + 0.5 - shape.x, ys + 0.5 - shape.y)
            assert shape.radius - 3 < distances.max() < shape.radius + 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_as_wide_and_as_high_as_its_outline(kind: str) -> None:
    scene = Scene(200, 160, WHITE, shapes=(Shape(kind, "red", "large", 90.0, 70.0, 60.0, 0.0, (200, 0, 0)),))
    (left, top), (right, bottom) = OUTLINES[kind].min(axis=0), OUTLINES[kind].max(axis=0)
    expected = (90 + 60 * left, 70 + 60 * top, 90 + 60 * right, 70 + 60 * bottom)
    assert box_of_ink(scene) == pytest.approx(expected, abs=2)


def test_characters_are_drawn_in_their_boxes(scenes: list[Scene]) -> None:
    for scene in [scene for scene in scenes if scene.labels][:100]:
        drawn = ink(replace(scene, panels=(), shapes=())) > 0
        outside = drawn.copy()
        for label in scene.labels:
            for left, top, right, bottom in label.boxes:
                box = drawn[int(top) : int(bottom), int(left) : int(right)]
                assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()
                outside[int(top) : int(bottom), int(left) : int(right)] = False
        assert not outside.any()


def test_things_have_their_own_colour(scenes: list[Scene]) -> None:
    """In the middle of a disc or a panel stands its colour, where no camera adds to it."""
    seen = 0
    for scene in scenes[:300]:
        plain = replace(scene, blur=0.0, noise=0.0, jpeg=0)
        pixels = np.asarray(draw(plain))
        for shape in scene.shapes:
            if shape.kind != "heart":
                seen += 1
                assert tuple(pixels[int(shape.y), int(shape.x)]) == shape.rgb
    assert seen > 200


def test_panels_are_filled_polygons() -> None:
    for number in range(20):
        chart = random_chart(random.Random(number))
        alone = [panel for panel in chart.scene.panels if panel.colour]
        for panel in alone[:2]:
            drawn = ink(replace(chart.scene, panels=(panel,), labels=()))
            assert drawn.sum() == pytest.approx(_area(panel), rel=0.06, abs=25)


def _area(panel: Panel) -> float:
    """By the shoelace formula."""
    x, y = np.array(panel.corners).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_backgrounds_lie_between_their_two_colours(kind: str) -> None:
    first, second = (200, 180, 160), (220, 150, 165)
    pixels = np.asarray(draw(Scene(90, 70, Background(kind, first, second, 0.4, 12.0), seed=3))).astype(int)
    low, high = np.minimum(first, second), np.maximum(first, second)
    assert (pixels >= low - 1).all() and (pixels <= high + 1).all()
    assert (np.ptp(pixels, axis=(0, 1)).sum() == 0) == (kind == "plain")


def test_blur_noise_and_jpeg_change_the_pixels_a_little(scenes: list[Scene]) -> None:
    scene = clean(scenes[3])
    before = np.asarray(draw(scene)).astype(int)
    for worn in (replace(scene, blur=1.5), replace(scene, noise=8.0), replace(scene, jpeg=50)):
        off = np.abs(np.asarray(draw(worn)).astype(int) - before)
        assert 0 < off.mean() < 20
