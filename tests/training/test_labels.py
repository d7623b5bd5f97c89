"""The labels of patches and cells agree with the scene and with the pixels drawn."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from omnilmm.training.labels import CELL_LABELS, PAIRS, WORDS, cell_labels, cell_words, patch_labels
from omnilmm.training.outlines import KINDS
from omnilmm.training.palette import COLOURS, Background
from omnilmm.training.printing import CHARACTERS
from omnilmm.training.scenes import Scene, Shape
from tests.training.ink import ink_of_patches

GREY = Background("plain", (200, 200, 200), (200, 200, 200), 0.0, 10.0)


def scene_of(*shapes: Shape, width: int = 120, height: int = 120) -> Scene:
    return Scene(width, height, GREY, shapes, None, blur=0.0, noise=0.0, jpeg=0, seed=1)


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
    centre = PAIRS + len(CHARACTERS) + KINDS.index("circle")
    scene = scene_of(Shape("circle", "blue", "small", 115.0, 5.0, 4.0, 0.0, (0, 0, 200)))
    # 18 columns: cells of 3 would be 6, so the fifth column of cells covers the columns 12 to 17.
    assert np.flatnonzero(cell_labels(scene, 18, 18)[:, centre]).tolist() == [4]
    # 9 columns: only three columns of cells are used.
    assert np.flatnonzero(cell_labels(scene, 9, 9)[:, centre]).tolist() == [2]
    # 3 columns: one cell for all of them.
    assert np.flatnonzero(cell_labels(scene, 3, 3)[:, centre]).tolist() == [0]


def test_words_of_a_cell_say_what_is_there_and_where() -> None:
    scene = scene_of(
        Shape("circle", "blue", "small", 110.0, 8.0, 4.0, 0.0, (0, 0, 200)),
        Shape("star", "red", "small", 60.0, 60.0, 4.0, 0.0, (200, 0, 0)),
    )
    words = cell_words(scene, cell_labels(scene, 9, 9), 9, 9)
    said = {
        int(cell): {WORDS[word].strip() for word in np.flatnonzero(words[cell])} for cell in words.any(1).nonzero()[0]
    }
    assert said == {2: {"circle", "blue", "top", "right"}, 6: {"star", "red", "middle"}}
