"""Scenes are reproducible and fair, and nothing in them is in the way of anything else."""

import math
import random
from collections import Counter

from omnilmm.training.outlines import KINDS
from omnilmm.training.palette import COLOURS
from omnilmm.training.scenes import SIZES, Scene, random_scene


def test_same_seed_same_scene() -> None:
    one, other = random.Random(3), random.Random(3)
    assert [random_scene(one) for _ in range(30)] == [random_scene(other) for _ in range(30)]


def test_sizes_counts_and_labels_are_spread_as_promised(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert 80 <= scene.width <= 400 and 80 <= scene.height <= 400
        assert 0.6 <= scene.width / scene.height <= 1.7
    counts = Counter(len(scene.shapes) for scene in scenes)
    assert set(counts) == set(range(7))
    most_of_a_kind = Counter(max(Counter(s.kind for s in scene.shapes).values()) for scene in scenes if scene.shapes)
    assert all(most_of_a_kind[count] > 0.04 * len(scenes) for count in range(1, 7))
    labelled = sum(scene.label is not None for scene in scenes) / len(scenes)
    assert 0.3 < labelled < 0.42
    assert any(scene.label and not scene.shapes for scene in scenes)
    assert any(not scene.label and not scene.shapes for scene in scenes)
    assert {shape.kind for scene in scenes for shape in scene.shapes} == set(KINDS)
    assert {shape.colour for scene in scenes for shape in scene.shapes} == set(COLOURS)


def test_share_of_labels_can_be_chosen() -> None:
    rng = random.Random(2)
    assert all(random_scene(rng, label_share=0.0).label is None for _ in range(50))
    assert sum(random_scene(rng, label_share=1.0).label is not None for _ in range(50)) > 44


def test_size_words_mean_radii(scenes: list[Scene]) -> None:
    radii: dict[str, list[float]] = {size: [] for size in SIZES}
    for scene in scenes:
        for shape in scene.shapes:
            radii[shape.size].append(shape.radius / scene.unit)
    assert max(radii["small"]) < min(radii["medium"]) < max(radii["medium"]) < min(radii["large"])


def test_nothing_overlaps_or_leaves_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        for number, shape in enumerate(scene.shapes):
            assert shape.radius <= shape.x <= scene.width - shape.radius
            assert shape.radius <= shape.y <= scene.height - shape.radius
            for other in scene.shapes[:number]:
                assert math.hypot(shape.x - other.x, shape.y - other.y) > shape.radius + other.radius
        if scene.label is None:
            continue
        left, top, right, bottom = scene.label.box
        assert 0 <= left < right <= scene.width and 0 <= top < bottom <= scene.height
        for shape in scene.shapes:
            nearest_x, nearest_y = min(max(shape.x, left), right), min(max(shape.y, top), bottom)
            assert math.hypot(shape.x - nearest_x, shape.y - nearest_y) > shape.radius
