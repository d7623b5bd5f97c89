"""Scenes are reproducible and fair, and nothing in them is in the way of anything else."""

import math
import random
from collections import Counter

import pytest

from built_in.outlines import KINDS
from built_in.palette import BACKGROUNDS, COLOURS
from built_in.scenes import MOST_SHAPES, SIZES, Scene, TextLayout, random_scene, random_size


def test_same_seed_same_scene() -> None:
    one, other = random.Random(3), random.Random(3)
    assert [random_scene(one) for _ in range(30)] == [random_scene(other) for _ in range(30)]


def test_sizes_are_spread_as_promised(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert min(scene.size) >= 64 and max(scene.size) <= 1000
    small = sum(scene.unit <= 168.5 for scene in scenes) / len(scenes)
    assert 0.62 < small < 0.75
    wide = [scene.width / scene.height for scene in scenes]
    assert min(wide) < 0.5 and max(wide) > 2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_small_pictures_can_be_chosen(share: float) -> None:
    rng = random.Random(1)
    units = [math.sqrt(math.prod(random_size(rng, share))) for _ in range(300)]
    assert all(unit < 168.6 if share else unit > 167.4 for unit in units)


def test_counts_kinds_and_colours_are_all_there(scenes: list[Scene]) -> None:
    counts = Counter(len(scene.shapes) for scene in scenes)
    assert set(counts) == set(range(MOST_SHAPES + 1))
    most_of_a_kind = Counter(max(Counter(s.kind for s in scene.shapes).values()) for scene in scenes if scene.shapes)
    assert all(most_of_a_kind[count] > 0.01 * len(scenes) for count in range(1, 9))
    assert {shape.kind for scene in scenes for shape in scene.shapes} == set(KINDS)
    assert {shape.colour for scene in scenes for shape in scene.shapes} == set(COLOURS)
    assert {scene.background.kind for scene in scenes} == set(BACKGROUNDS)


def test_a_third_has_print_of_every_layout(scenes: list[Scene]) -> None:
    lines = Counter(len(scene.labels) for scene in scenes)
    assert 0.3 < 1 - lines[0] / len(scenes) < 0.42
    assert set(lines) == {0, 1, 2, 3, 4}
    assert any(scene.panels for scene in scenes)
    assert any(scene.labels and not scene.shapes for scene in scenes)
    assert any(not scene.things for scene in scenes)


@pytest.mark.parametrize(
    ("layout", "least", "most"),
    [("none", 0, 0), ("label", 1, 1), ("sign", 1, 2), ("lines", 2, 4), ("small print", 1, 4)],
)
def test_a_layout_of_print_can_be_chosen(layout: TextLayout, least: int, most: int) -> None:
    rng = random.Random(2)
    chosen = [random_scene(rng, text=layout) for _ in range(100)]
    printed = [len(scene.labels) for scene in chosen if scene.labels or layout == "none"]
    assert len(printed) > 85 and least <= min(printed) and max(printed) == most
    assert all(bool(scene.panels) == (layout == "sign") for scene in chosen if scene.labels)


def test_size_words_mean_radii(scenes: list[Scene]) -> None:
    radii: dict[str, list[float]] = {size: [] for size in SIZES}
    for scene in scenes:
        for shape in scene.shapes:
            radii[shape.size].append(shape.radius / scene.unit)
    assert max(radii["small"]) * 1.15 < min(radii["medium"])
    assert max(radii["medium"]) * 1.15 < min(radii["large"])


def test_as_many_shapes_as_wished_where_there_is_room() -> None:
    rng = random.Random(4)
    plain = [random_scene(rng, text="none", least_shapes=2) for _ in range(200)]
    assert sum(len(scene.shapes) >= 2 for scene in plain) > 195


def test_nothing_overlaps_or_leaves_the_picture(scenes: list[Scene]) -> None:
    rng = random.Random(6)
    for scene in [*scenes, *(random_scene(rng, text="small print") for _ in range(100))]:
        for number, shape in enumerate(scene.shapes):
            assert shape.radius <= shape.x <= scene.width - shape.radius
            assert shape.radius <= shape.y <= scene.height - shape.radius
            for other in scene.shapes[:number]:
                assert math.hypot(shape.x - other.x, shape.y - other.y) > shape.radius + other.radius
        boxes = [label.box for label in scene.labels]
        boxes += [(*panel.corners[0], *panel.corners[2]) for panel in scene.panels]
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= scene.width and 0 <= top < bottom <= scene.height
            for shape in scene.shapes:
                nearest_x, nearest_y = min(max(shape.x, left), right), min(max(shape.y, top), bottom)
                assert math.hypot(shape.x - nearest_x, shape.y - nearest_y) > shape.radius


def test_lines_stand_below_each_other_and_within_their_sign(scenes: list[Scene]) -> None:
    for scene in scenes:
        for above, below in zip(scene.labels, scene.labels[1:], strict=False):
            assert above.box[3] < below.box[1]
            assert above.text != below.text
        for panel in scene.panels:
            (left, top), _, (right, bottom), _ = panel.corners
            for label in scene.labels:
                assert left < label.box[0] and label.box[2] < right and top < label.box[1] and label.box[3] < bottom


def test_small_print_is_too_small_for_the_overview_and_not_for_slices() -> None:
    """The overview of a page has 168 x 168 pixels, its slices together up to about 500 x 500."""
    rng = random.Random(5)
    for _ in range(150):
        scene = random_scene(rng, text="small print")
        for label in scene.labels:
            assert label.height * 168 / scene.unit < 5.5
            assert label.height >= 7.5
