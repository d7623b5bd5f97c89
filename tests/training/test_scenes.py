"""Scenes are reproducible, legible and fair, and the labels of patches agree with the pixels drawn."""

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from omnilmm.training.scenes import (
    CELL_LABELS,
    CHARACTERS,
    COLOURS,
    KINDS,
    LEAST_LETTER,
    PAIRS,
    SIZES,
    Background,
    Scene,
    Shape,
    _lab,
    cell_labels,
    draw,
    is_held_out,
    patch_labels,
    printable_text,
    random_scene,
)

GREY = Background("plain", (200, 200, 200), (200, 200, 200), 0.0, 10.0)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = random.Random(11)
    return [random_scene(rng) for _ in range(1500)]


def scene_of(*shapes: Shape, width: int = 120, height: int = 120) -> Scene:
    return Scene(width, height, GREY, shapes, None, blur=0.0, noise=0.0, jpeg=0, seed=1)


def clean(scene: Scene) -> Scene:
    """The same things, black on plain white without any blur, so that ink can be told from background."""
    return replace(
        scene,
        background=Background("plain", (255, 255, 255), (255, 255, 255), 0.0, 10.0),
        shapes=tuple(replace(shape, rgb=(0, 0, 0)) for shape in scene.shapes),
        label=replace(scene.label, rgb=(0, 0, 0)) if scene.label else None,
        blur=0.0,
        noise=0.0,
        jpeg=0,
    )


def ink(scene: Scene) -> NDArray[np.float64]:
    """Share [H, W] of each pixel that is drawn upon."""
    return 1 - np.asarray(draw(clean(scene)), dtype=np.float64)[..., 0] / 255


def ink_of_patches(scene: Scene, rows: int, columns: int) -> NDArray[np.float64]:
    """Mean ink [R*C]; patches are enlarged to whole pixels first, where they are not."""
    fine = np.repeat(np.repeat(ink(scene), rows, axis=0), columns, axis=1)
    return np.asarray(fine.reshape(rows, scene.height, columns, scene.width).mean(axis=(1, 3)).ravel())


def test_same_seed_same_scene_and_same_pixels() -> None:
    one, other = random.Random(3), random.Random(3)
    for _ in range(30):
        scene = random_scene(one)
        assert scene == random_scene(other)
        assert draw(scene).tobytes() == draw(scene).tobytes()
        assert draw(scene).size == (scene.width, scene.height)
        assert draw(scene).mode == "RGB"


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


def test_everything_stands_out_from_its_background(scenes: list[Scene]) -> None:
    for scene in scenes:
        behind = [_lab(scene.background.first), _lab(scene.background.second)]
        colours = [shape.rgb for shape in scene.shapes] + ([scene.label.rgb] if scene.label else [])
        assert all(math.dist(_lab(rgb), other) > 25 for rgb in colours for other in behind)


def test_printed_text_is_legible_in_the_shrunk_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        if scene.label is None:
            continue
        text = scene.label.text
        assert scene.label.height >= LEAST_LETTER * scene.unit
        assert (text.isdigit() and 1 <= len(text) <= 4) or (text.isalpha() and text.isupper() and 3 <= len(text) <= 6)
        assert all(character in CHARACTERS for character in text)
        # The real ink of every character is as high as promised (rounded parts and Q only make it higher).
        assert all(bottom - top > 0.9 * scene.label.height for _, top, _, bottom in scene.label.boxes)


def test_held_out_texts_are_never_in_training_and_always_in_evaluation(scenes: list[Scene]) -> None:
    assert not any(is_held_out(scene.label.text) for scene in scenes if scene.label)
    rng = random.Random(4)
    held_out = [random_scene(rng, held_out=True) for _ in range(200)]
    printed = [scene.label.text for scene in held_out if scene.label]
    assert len(printed) > 40
    assert all(is_held_out(text) for text in printed)
    assert any(text.isdigit() for text in printed) and any(text.isalpha() for text in printed)
    assert not any(is_held_out(digit) for digit in "0123456789")


def test_about_a_tenth_of_texts_is_held_out() -> None:
    rng = random.Random(5)
    texts = {printable_text(rng) for _ in range(2000)} | {printable_text(rng, held_out=True) for _ in range(2000)}
    random_letters = ["".join(rng.choices(CHARACTERS[:26], k=5)) for _ in range(4000)]
    assert 0.08 < sum(map(is_held_out, random_letters)) / 4000 < 0.12
    assert all(set(text) <= set(CHARACTERS) for text in texts)


def test_shape_ink_lies_within_its_circle_and_reaches_it(scenes: list[Scene]) -> None:
    for scene in scenes[:150]:
        for shape in scene.shapes[:2]:
            drawn = ink(replace(scene, shapes=(shape,), label=None)) > 0.5
            ys, xs = np.nonzero(drawn)
            distances = np.hypot(xs + 0.5 - shape.x, ys + 0.5 - shape.y)
            assert shape.radius - 3 < distances.max() < shape.radius + 1.5


def test_characters_are_drawn_in_their_boxes(scenes: list[Scene]) -> None:
    for scene in [scene for scene in scenes if scene.label][:80]:
        assert scene.label is not None
        drawn = ink(replace(scene, shapes=())) > 0
        outside = drawn.copy()
        for left, top, right, bottom in scene.label.boxes:
            box = drawn[int(top) : int(bottom), int(left) : int(right)]
            assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()
            outside[int(top) : int(bottom), int(left) : int(right)] = False
        assert not outside.any()


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (6, 10), (10, 7)])
def test_patch_kinds_agree_with_the_pixels(scenes: list[Scene], rows: int, columns: int) -> None:
    for scene in scenes[:60]:
        labels = patch_labels(scene, rows, columns)
        covers = np.stack(
            [ink_of_patches(replace(scene, shapes=(s,), label=None), rows, columns) for s in scene.shapes]
            or [np.zeros(rows * columns)]
        )
        most, cover = covers.argmax(axis=0), covers.max(axis=0)
        for patch, (kind, colour) in enumerate(zip(labels["kind"], labels["colour"], strict=True)):
            if kind == 0:
                assert cover[patch] < 0.25  # edges are smoothed, and samples know the cover to some hundredths
                continue
            assert cover[patch] > 0.07
            others = np.delete(covers[:, patch], most[patch])
            if cover[patch] - others.max(initial=0.0) > 0.15:
                shape = scene.shapes[most[patch]]
                assert (KINDS[kind - 1], COLOURS[colour - 1]) == (shape.kind, shape.colour)


def test_patch_characters_are_where_they_are_printed(scenes: list[Scene]) -> None:
    rows = columns = 8
    lost = 0
    for scene in [scene for scene in scenes if scene.label][:80]:
        assert scene.label is not None
        labels = patch_labels(scene, rows, columns)
        found = labels["character"].reshape(rows, columns)
        seen = {CHARACTERS[number - 1] for number in found.ravel() if number}
        assert seen <= set(scene.label.text)
        lost += len(set(scene.label.text) - seen)
        left, top, right, bottom = scene.label.box
        for row, column in zip(*np.nonzero(found), strict=True):
            assert left < (column + 1) * scene.width / columns and column * scene.width / columns < right
            assert top < (row + 1) * scene.height / rows and row * scene.height / rows < bottom
        printed = (labels["character"] > 0) & (labels["kind"] == 0)
        assert (labels["colour"][printed] == COLOURS.index(scene.label.colour) + 1).all()
    assert lost <= 8  # of about 300; a narrow letter between two wide ones may have no patch of its own


def test_patch_labels_of_a_scene_known_by_heart() -> None:
    scene = scene_of(Shape("square", "red", "large", 30.0, 30.0, 30 * math.sqrt(2) - 0.01, 0.0, (200, 0, 0)))
    labels = patch_labels(scene, 4, 4)
    expected = np.zeros((4, 4), np.int64)
    expected[:2, :2] = 1
    assert (labels["kind"].reshape(4, 4) == expected * (KINDS.index("square") + 1)).all()
    assert (labels["colour"].reshape(4, 4) == expected * (COLOURS.index("red") + 1)).all()
    assert not labels["character"].any()


def test_patch_labels_are_integers_in_range(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        labels = patch_labels(scene, 7, 9)
        for name, most in (("kind", len(KINDS)), ("colour", len(COLOURS)), ("character", len(CHARACTERS))):
            assert labels[name].shape == (63,) and labels[name].dtype == np.int64
            assert labels[name].min() >= 0 and labels[name].max() <= most
        assert ((labels["colour"] > 0) == ((labels["kind"] > 0) | (labels["character"] > 0))).all()


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (6, 10), (10, 6), (12, 9), (3, 4)])
def test_cells_hold_every_thing_once_as_a_centre(scenes: list[Scene], rows: int, columns: int) -> None:
    for scene in scenes[:120]:
        found = cell_labels(scene, rows, columns)
        assert found.shape == (25, CELL_LABELS) and found.dtype == np.float32
        assert set(np.unique(found)) <= {0.0, 1.0}
        pairs = {(shape.kind, shape.colour) for shape in scene.shapes}
        seen = np.flatnonzero(found[:, :PAIRS].any(axis=0))
        assert {(KINDS[pair // len(COLOURS)], COLOURS[pair % len(COLOURS)]) for pair in seen} == pairs
        characters = found[:, PAIRS : PAIRS + len(CHARACTERS)].any(axis=0)
        printed = set(scene.label.text) if scene.label else set()
        assert {CHARACTERS[number] for number in np.flatnonzero(characters)} == printed
        centres = found[:, PAIRS + len(CHARACTERS) :].sum(axis=0)
        counts = Counter(shape.kind for shape in scene.shapes)
        # Two centres of a kind may share a cell, so counts are bounded, and exact where no cell is shared.
        assert all(min(1, counts[kind]) <= centres[number] <= counts[kind] for number, kind in enumerate(KINDS))


def test_cells_cover_their_patches_and_the_last_one_all_that_remains() -> None:
    shape = Shape("circle", "blue", "small", 115.0, 5.0, 4.0, 0.0, (0, 0, 200))
    # 12 columns: cells of 2 would be 6, so the fifth column of cells covers the columns 8 to 11.
    found = cell_labels(scene_of(shape), 12, 12)
    centre = PAIRS + len(CHARACTERS) + KINDS.index("circle")
    assert np.flatnonzero(found[:, centre]).tolist() == [4]
    # 6 columns: only three columns of cells are used.
    assert np.flatnonzero(cell_labels(scene_of(shape), 6, 6)[:, centre]).tolist() == [2]
    # One cell for all of it.
    assert np.flatnonzero(cell_labels(scene_of(shape), 6, 6, cell=6, cells=1)[:, centre]).tolist() == [0]
