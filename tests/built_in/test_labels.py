"""The labels of patches and cells agree with the scene and with the pixels drawn, through a slice of it too."""

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from built_in.cells import (
    CELL_LABELS,
    CELL_PATCHES,
    CELL_PRINT,
    CELLS,
    PAIRS,
    WORDS,
    cell_boxes,
    cell_grid,
    cell_labels,
    cell_print,
    cell_words,
)
from built_in.charts import random_chart
from built_in.facts import BOX_STEP, box_of
from built_in.labels import (
    ALL_PLACES,
    EDGE_CLASSES,
    EDGES,
    IGNORED,
    PATCH_LABELS,
    patch_labels,
    scene_in_view,
)
from built_in.outlines import KINDS
from built_in.palette import COLOURS, Background
from built_in.printing import CHARACTERS, LAST_COLUMN, LAST_ROW, Box, printed_at
from built_in.scenes import SIZES, Panel, Scene, Shape, random_scene
from tests.built_in.ink import ink, ink_of_patches, of_patches

GREY = Background("plain", (200, 200, 200), (200, 200, 200), 0.0, 10.0)
HARDLY = 0.06  # share of patches that are labelled though less than half as much as promised lies in them
CENTRES = PAIRS + len(CHARACTERS)


def scene_of(*shapes: Shape, width: int = 120, height: int = 120) -> Scene:
    return Scene(width, height, GREY, shapes=shapes, seed=1)


def square(x: float, y: float, side: float, colour: str = "red") -> Shape:
    return Shape("square", colour, "large", x, y, side / math.sqrt(2) - 0.01, 0.0, (200, 0, 0))


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (6, 10), (14, 14)])
def test_patch_kinds_agree_with_the_pixels(scenes: list[Scene], rows: int, columns: int) -> None:
    hardly = labelled = 0
    for scene in scenes[:60]:
        labels = patch_labels(scene, rows, columns)
        alone = [replace(scene, panels=(), shapes=(shape,), labels=()) for shape in scene.shapes]
        covers = np.stack([ink_of_patches(one, rows, columns) for one in alone] or [np.zeros(rows * columns)])
        most, cover = covers.argmax(axis=0), covers.max(axis=0)
        for patch, (kind, colour) in enumerate(zip(labels["kind"], labels["colour"], strict=True)):
            if kind == 0:
                assert cover[patch] < 0.33  # edges are smoothed, over patches of five pixels and more
                continue
            labelled, hardly = labelled + 1, hardly + (cover[patch] < 0.08)
            others = np.delete(covers[:, patch], most[patch])
            if cover[patch] - others.max(initial=0.0) > 0.15:
                shape = scene.shapes[most[patch]]
                assert (KINDS[kind - 1], COLOURS[colour - 1]) == (shape.kind, shape.colour)
    assert labelled > 500 and hardly < HARDLY * labelled


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Pillow fills the points on a polygon's edge too")
@pytest.mark.parametrize("begin", [30, 31])
def test_a_patch_that_a_bar_does_not_reach_has_no_colour(begin: int) -> None:
    bar = Panel(((0, begin), (120, begin), (120, 120), (0, 120)), (0, 0, 200), "blue")
    reached = patch_labels(replace(scene_of(), panels=(bar,)), 4, 4)["colour"].reshape(4, 4)[:, 0] > 0
    # 15 % of a patch of 30 pixels are 4.5 of them.
    assert reached.tolist() == [begin < 25.5, begin < 55.5, True, True]


def test_each_half_of_a_patch_has_the_character_printed_there(scenes: list[Scene]) -> None:
    rows = columns = 14
    lost = printed = 0
    for scene in [scene for scene in scenes if scene.labels][:100]:
        labels = patch_labels(scene, rows, columns)
        halves = np.stack([labels["left"], labels["right"]], axis=1).reshape(rows, columns * 2)
        wide, high = scene.width / columns / 2, scene.height / rows
        found = set()
        for row, column in zip(*np.nonzero(halves), strict=True):
            character = CHARACTERS[halves[row, column] - 1]
            field = (column * wide, row * high, (column + 1) * wide, (row + 1) * high)
            under = [
                (number, place)
                for number, label in enumerate(scene.labels)
                for place, box in enumerate(label.boxes)
                if label.text[place] == character and meets(box, field)
            ]
            assert under, (character, field)
            found |= set(under)
        total = sum(len(label.text) for label in scene.labels)
        printed, lost = printed + total, lost + total - len(found)
    assert printed > 500 and lost < 0.04 * printed  # a narrow letter between two wide ones may have no field of its own


def meets(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_the_halves_of_a_patch_are_left_and_right() -> None:
    label = printed_at("HN", "DejaVuSans-Bold", 40.0, 4.0, 8.0, "blue", (0, 0, 200))
    width = label.box[2] + 4
    labels = patch_labels(Scene(width, 56, GREY, labels=(label,)), 1, 1)
    assert CHARACTERS[labels["left"][0] - 1] == "H" and CHARACTERS[labels["right"][0] - 1] == "N"
    assert COLOURS[labels["colour"][0] - 1] == "blue" and labels["kind"][0] == 0


def test_patch_labels_of_a_scene_known_by_heart() -> None:
    labels = patch_labels(scene_of(square(30.0, 30.0, 60)), 4, 4)
    expected = np.zeros((4, 4), np.int64)
    expected[:2, :2] = 1
    assert (labels["kind"].reshape(4, 4) == expected * (KINDS.index("square") + 1)).all()
    assert (labels["colour"].reshape(4, 4) == expected * (COLOURS.index("red") + 1)).all()
    assert not labels["left"].any() and not labels["right"].any()


def test_every_patch_of_a_thing_knows_the_whole_of_it() -> None:
    scene = scene_of(square(30.0, 30.0, 60), Shape("circle", "blue", "small", 100.0, 60.0, 15.0, 0.0, (0, 0, 200)))
    labels = patch_labels(scene, 4, 4)
    box = box_of(scene, scene.things[1])
    assert np.array(SIZES)[labels["size"][:2] - 1].tolist() == ["large"] * 2
    assert np.array(ALL_PLACES)[labels["place"][[0, 5, 7, 11]] - 1].tolist() == ["top left"] * 2 + ["right"] * 2
    for patch, edges in ((0, (0, 0, 500, 500)), (5, (0, 0, 500, 500)), (7, box), (11, box)):
        assert [(labels[edge][patch] - 1) * BOX_STEP for edge in EDGES] == list(edges)
    for name in PATCH_LABELS:
        assert labels[name][12] == 0  # nothing lies there


def test_what_print_says_of_all_of_it() -> None:
    label = printed_at("HN", "DejaVuSans-Bold", 40.0, 4.0, 8.0, "blue", (0, 0, 200))
    scene = Scene(3 * (label.box[2] + 4), 3 * 56, GREY, labels=(label,))
    labels = patch_labels(scene, 3, 3)
    assert (labels["size"] == 0).all() and ALL_PLACES[labels["place"][0] - 1] == "top left"
    assert (labels["bottom_edge"][0] - 1) * BOX_STEP == box_of(scene, label)[3]


def test_patches_and_cells_of_print_know_its_row_and_column() -> None:
    placed = []
    for row, column in product((1, 2, 3), (1, 2)):
        label = printed_at("H", "DejaVuSans-Bold", 9.0, 36 * column - 34, 36 * row - 34, "blue", (0, 0, 200))
        placed.append(replace(label, row=row, column=column))
    scene = Scene(168, 168, GREY, labels=tuple(placed))
    patches, cells = patch_labels(scene, 14, 14), cell_grid(scene, 14, 14).reshape(CELLS, CELLS, 2)
    assert patches["row"].reshape(14, 14)[[0, 3, 6, 9], 0].tolist() == [1, 2, 3, 0]
    assert patches["column"].reshape(14, 14)[0, [0, 3, 6]].tolist() == [1, 2, 0]
    assert cells[:3, :2].tolist() == [[[1, 1], [1, 2]], [[2, 1], [2, 2]], [[3, 1], [3, 2]]]
    assert not cells[3:].any() and not cells[:, 2:].any()


def test_shapes_have_no_row_and_no_column() -> None:
    scene = scene_of(square(30.0, 30.0, 60))
    labels = patch_labels(scene, 4, 4)
    assert not labels["row"].any() and not labels["column"].any() and not cell_grid(scene, 18, 18).any()


def test_a_slice_does_not_know_where_in_the_picture_a_thing_is(scenes: list[Scene]) -> None:
    for scene in scenes[:20]:
        whole, part = patch_labels(scene, 7, 9), patch_labels(scene, 7, 9, is_overview=False)
        for name in PATCH_LABELS:
            known = name in ("kind", "colour", "left", "right")
            assert (part[name] == (whole[name] if known else IGNORED)).all()


def test_bars_have_a_colour_and_are_no_shapes() -> None:
    bars = (
        Panel(((0, 37), (57, 37), (57, 120), (0, 120)), (0, 0, 200), "blue"),
        Panel(((63, 67), (120, 67), (120, 120), (63, 120)), (200, 0, 0), "red"),
        Panel(((0, 0), (120, 0), (120, 30), (0, 30)), (9, 9, 9)),  # a rule or a board has no name
    )
    labels = patch_labels(replace(scene_of(), panels=bars), 4, 4)
    names = np.array(["", *COLOURS])[labels["colour"]].reshape(4, 4)
    assert names.tolist() == [
        ["", "", "", ""],
        ["blue", "blue", "", ""],
        ["blue", "blue", "red", "red"],
        ["blue", "blue", "red", "red"],
    ]
    assert not labels["kind"].any()


def test_the_colours_of_charts_agree_with_the_pixels() -> None:
    for number in range(25):
        scene = random_chart(random.Random(number)).scene
        scene = replace(scene, labels=())
        named = patch_labels(scene, 14, 14)["colour"]
        covers = {}
        for panel in scene.panels:
            if panel.colour:
                cover = ink_of_patches(replace(scene, panels=(panel,)), 14, 14)
                covers[panel.colour] = np.maximum(covers.get(panel.colour, 0), cover)
        for colour, cover in covers.items():
            assert (named[cover > 0.9] == COLOURS.index(colour) + 1).all()
        assert (np.max(list(covers.values()), axis=0)[named > 0] < 0.08).mean() < 3 * HARDLY


def test_patch_labels_are_integers_in_range(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        labels = patch_labels(scene, 7, 9)
        ranges = {"kind": len(KINDS), "colour": len(COLOURS), "left": len(CHARACTERS), "right": len(CHARACTERS)}
        ranges |= {"size": len(SIZES), "place": len(ALL_PLACES)}
        ranges |= {"row": LAST_ROW, "column": LAST_COLUMN} | dict.fromkeys(EDGES, EDGE_CLASSES)
        assert set(labels) == set(ranges) == set(PATCH_LABELS)
        for name, most in ranges.items():
            assert labels[name].shape == (63,) and labels[name].dtype == np.int64
            assert labels[name].min() >= 0 and labels[name].max() <= most
        something = (labels["kind"] > 0) | (labels["left"] > 0) | (labels["right"] > 0)
        assert ((labels["colour"] > 0) == something).all() or scene.panels  # a board may have one, too


@pytest.mark.parametrize(("rows", "columns"), [(14, 14), (10, 18), (24, 8), (8, 8), (3, 4)])
def test_cells_hold_every_thing_once_as_a_centre(scenes: list[Scene], rows: int, columns: int) -> None:
    for scene in scenes[:120]:
        found = cell_labels(scene, rows, columns)
        assert found.shape == (CELLS**2, CELL_LABELS) and found.dtype == np.float32
        assert set(np.unique(found)) <= {0.0, 1.0}
        pairs = {(shape.kind, shape.colour) for shape in scene.shapes}
        seen = np.flatnonzero(found[:, :PAIRS].any(axis=0))
        assert {(KINDS[pair // len(COLOURS)], COLOURS[pair % len(COLOURS)]) for pair in seen} == pairs
        characters = found[:, PAIRS:CENTRES].any(axis=0)
        printed = {character for label in scene.labels for character in label.text}
        assert {CHARACTERS[number] for number in np.flatnonzero(characters)} == printed
        centres = found[:, CENTRES:].sum(axis=0)
        counts = Counter(shape.kind for shape in scene.shapes)
        # Two centres of a kind may share a cell, so counts are bounded, and exact where no cell is shared.
        assert all(min(1, counts[kind]) <= centres[number] <= counts[kind] for number, kind in enumerate(KINDS))


def test_the_centre_of_a_shape_is_in_the_cell_where_it_lies(scenes: list[Scene]) -> None:
    """Over 18 x 18 patches there are 6 x 6 equal cells, whatever the picture's proportions."""
    for scene in scenes[:150]:
        centres = cell_labels(scene, 18, 18)[:, CENTRES:]
        expected = {
            (int(6 * shape.y / scene.height) * 6 + int(6 * shape.x / scene.width), KINDS.index(shape.kind))
            for shape in scene.shapes
        }
        assert {(int(cell), int(kind)) for cell, kind in np.argwhere(centres)} == expected


def test_the_cell_of_a_character_is_where_it_is_printed(scenes: list[Scene]) -> None:
    for scene in [scene for scene in scenes if scene.labels][:100]:
        found = cell_labels(scene, 18, 18)[:, PAIRS:CENTRES].reshape(6, 6, -1)
        for label in scene.labels:
            for character, (left, top, right, bottom) in zip(label.text, label.boxes, strict=True):
                row, column = int(3 * (top + bottom) / scene.height), int(3 * (left + right) / scene.width)
                assert found[row, column, CHARACTERS.index(character)]


def test_the_cells_of_a_shape_are_those_its_ink_lies_in(scenes: list[Scene]) -> None:
    """Over 18 x 18 patches, cells are equal, and what lies in them can be counted in the pixels."""
    hardly, labelled = 0, 0
    for scene in scenes[:60]:
        found = cell_labels(scene, 18, 18)
        for shape in scene.shapes[:2]:
            alone = replace(scene, panels=(), shapes=(shape,), labels=())
            cover = ink_of_patches(alone, CELLS, CELLS)
            entry = KINDS.index(shape.kind) * len(COLOURS) + COLOURS.index(shape.colour)
            others = [other for other in scene.shapes if other is not shape]
            there = found[:, entry] == 1
            assert there[cover > 0.3].all()
            if not any((other.kind, other.colour) == (shape.kind, shape.colour) for other in others):
                labelled, hardly = labelled + there.sum(), hardly + (cover[there] < 0.01).sum()
    assert labelled > 200 and hardly < HARDLY * labelled


def test_cells_cover_their_patches_and_the_last_one_all_that_remains() -> None:
    centre = CENTRES + KINDS.index("circle")
    scene = scene_of(Shape("circle", "blue", "small", 115.0, 5.0, 4.0, 0.0, (0, 0, 200)))
    for columns, cell in ((24, 5), (18, 5), (14, 4), (9, 2), (3, 0)):
        assert np.flatnonzero(cell_labels(scene, columns, columns)[:, centre]).tolist() == [cell]
    # The last column of cells begins with patch 15 and goes to the end, however far that is.
    left_of_it = scene_of(Shape("circle", "blue", "small", 120 * 14.5 / 24, 5.0, 4.0, 0.0, (0, 0, 200)))
    assert np.flatnonzero(cell_labels(left_of_it, 24, 24)[:, centre]).tolist() == [14 // CELL_PATCHES]


def test_words_of_a_cell_say_what_is_there_and_where_in_both_languages() -> None:
    scene = scene_of(
        Shape("circle", "blue", "small", 110.0, 8.0, 4.0, 0.0, (0, 0, 200)),
        Shape("star", "red", "large", 60.0, 60.0, 4.0, 0.0, (200, 0, 0)),
    )
    assert words_of(cell_words(scene, 9, 9)) == {
        2: {"circle", "blue", "top", "right", "small", "圆", "蓝", "上", "右", "小"},
        CELLS + 1: {"star", "red", "middle", "large", "星", "红", "大"},
    }
    assert words_of(cell_words(scene, 9, 9, is_overview=False)) == {
        2: {"circle", "blue", "圆", "蓝"},
        CELLS + 1: {"star", "red", "星", "红"},
    }


def test_a_cell_speaks_of_one_thing() -> None:
    star = Shape("star", "pink", "small", 72.0, 30.0, 8.0, 0.0, (200, 100, 150))
    scene = scene_of(square(7.0, 10.0, 12, "blue"), square(33.0, 30.0, 36), star)
    said = words_of(cell_words(scene, 18, 18, is_overview=False))
    assert said[0] == {"square", "blue", "正", "蓝"}
    assert said[1] == said[CELLS] == said[CELLS + 1] == {"square", "red", "正", "红"}
    assert said[CELLS + 3] == {"star", "pink", "星", "粉"}


def test_what_has_the_most_of_no_cell_is_spoken_of_all_the_same() -> None:
    scene = scene_of(square(8.0, 10.0, 16, "blue"), square(20.0, 10.0, 7, "green"), square(56.0, 30.0, 60))
    said = words_of(cell_words(scene, 18, 18, is_overview=False))
    assert [words & set(COLOURS) for words in (said[0], said[1], said[2])] == [{"blue"}, {"green"}, {"red"}]


def test_a_character_is_a_word_of_the_cell_with_its_middle_alone() -> None:
    label = printed_at("HNX", "DejaVuSans-Bold", 40.0, 4.0, 8.0, "blue", (0, 0, 200))
    said = words_of(cell_words(Scene(168, 168, GREY, labels=(label,)), 14, 14, is_overview=False))
    middles = [int((box[0] + box[2]) / 2 / 36) for box in label.boxes]
    for character, cell in zip("HNX", middles, strict=True):
        assert [place for place, words in said.items() if character in words] == [cell]


def words_of(words: np.ndarray) -> dict[int, set[str]]:
    return {
        int(cell): {WORDS[word].strip() for word in np.flatnonzero(words[cell])} for cell in words.any(1).nonzero()[0]
    }


def test_words_of_a_cell_are_as_many_as_words() -> None:
    assert len(WORDS) == len(set(WORDS))
    scene = random_scene(random.Random(1))
    assert cell_words(scene, 14, 14).shape == (CELLS**2, len(WORDS))


def test_every_cell_of_a_thing_says_the_edges_of_its_box() -> None:
    one, other = square(30.0, 30.0, 60), square(90.0, 95.0, 24, "blue")
    scene = scene_of(one, other)
    found = cell_boxes(scene, 18, 18)
    for cell in (0, CELLS + 1, 2 * CELLS + 2):
        assert (found[cell] * BOX_STEP).tolist() == [0, 0, 500, 500]
    assert (found[4 * CELLS + 4] * BOX_STEP).tolist() == list(box_of(scene, other))
    assert (found[3:CELLS] == IGNORED).all() and (found[5 * CELLS : 5 * CELLS + 3] == IGNORED).all()


def test_of_two_things_in_a_cell_the_larger_part_gives_the_box() -> None:
    scene = scene_of(square(7.0, 10.0, 12, "blue"), square(33.0, 30.0, 36))
    found = cell_boxes(scene, 18, 18) * BOX_STEP
    assert [tuple(found[0]), tuple(found[CELLS])] == [box_of(scene, thing) for thing in scene.things]


def test_a_cell_says_its_characters_in_reading_order() -> None:
    lines = [
        printed_at(text, "DejaVuSans-Bold", 9.0, 2.0, y, "blue", (0, 0, 200)) for text, y in (("66", 1), ("2X", 20))
    ]
    found = cell_print(Scene(168, 168, GREY, labels=tuple(lines)), 14, 14)
    said = ["".join(CHARACTERS[number - 1] for number in numbers if number) for numbers in found]
    assert said == ["662X", *[""] * (CELLS**2 - 1)]


def test_a_cell_with_more_characters_than_it_tells_is_left_out() -> None:
    label = printed_at("IIIIIIII", "DejaVuSans-Bold", 6.0, 1.0, 1.0, "blue", (0, 0, 200))
    found = cell_print(Scene(168, 168, GREY, labels=(label,)), 14, 14)
    assert (found[0] == IGNORED).all() and (found[2:] == 0).all() and found.shape == (CELLS**2, CELL_PRINT)


def views_of(scene: Scene) -> list[Box]:
    """Four quarters of a picture, in fractions of pixels where its sides are odd."""
    x, y = scene.width / 2, scene.height / 2
    return [(0, 0, x, y), (x, 0, 2 * x, y), (0, y, x, 2 * y), (x, y, 2 * x, 2 * y)]


def test_a_whole_view_shows_the_whole_scene(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        assert scene_in_view(scene, (0.0, 0.0, float(scene.width), float(scene.height))) == scene


def test_things_outside_a_view_are_not_seen_and_those_inside_are_moved() -> None:
    scene = scene_of(square(20, 20, 10), square(100, 30, 10, "blue"), square(61, 90, 10, "green"))
    view = scene_in_view(scene, (60, 0, 120, 120))
    assert (view.width, view.height) == (60, 120)
    assert [(shape.colour, shape.x, shape.y) for shape in view.shapes] == [("blue", 40, 30), ("green", 1, 90)]


def test_a_line_is_cut_where_the_view_ends() -> None:
    label = printed_at("ABCDEF", "DejaVuSans", 14.0, 10.0, 40.0, "black", (0, 0, 0))
    scene = Scene(200, 90, GREY, labels=(label,))
    cut = label.boxes[3][0] - 0.5
    left = scene_in_view(scene, (0, 0, cut, 90))
    right = scene_in_view(scene, (cut, 0, 200, 90))
    assert [part.labels[0].text for part in (left, right)] == ["ABC", "DEF"]
    assert right.labels[0].boxes[0][0] == pytest.approx(0.5)
    assert not scene_in_view(scene, (0, 60, 200, 90)).labels


def test_labels_of_a_view_agree_with_the_pixels_it_shows() -> None:
    """Each quarter of a large picture, over its own patches."""
    rng, seen, empty, labelled, hardly = random.Random(12), 0, 0, 0, 0
    for _ in range(30):
        scene = random_scene(rng, size=(336, 280), text="lines", least_shapes=2)
        for left, top, right, bottom in views_of(scene):
            view = scene_in_view(scene, (left, top, right, bottom))
            labels = patch_labels(view, 10, 12, is_overview=False)
            pixels = ink(replace(scene, panels=(), labels=()))[int(top) : int(bottom), int(left) : int(right)]
            cover = of_patches(pixels, 10, 12)
            assert (labels["kind"][cover > 0.3] > 0).all()
            labelled, hardly = labelled + (labels["kind"] > 0).sum(), hardly + (cover[labels["kind"] > 0] < 0.08).sum()
            print_there = of_patches(
                ink(replace(scene, panels=(), shapes=()))[int(top) : int(bottom), int(left) : int(right)], 10, 12
            )
            read = (labels["left"] > 0) | (labels["right"] > 0)
            assert read[print_there > 0.3].all()
            empty += (print_there[read] == 0).sum()
            seen += int(read.sum())
    assert seen > 500 and empty < 0.1 * seen and labelled > 500 and hardly < HARDLY * labelled


def test_a_shape_is_counted_once_however_a_picture_is_cut(scenes: list[Scene]) -> None:
    for scene in scenes[:80]:
        counted: Counter[str] = Counter()
        for view in views_of(scene):
            centres = cell_labels(scene_in_view(scene, view), 18, 18)[:, CENTRES:]
            counted += Counter({KINDS[kind]: int(centres[:, kind].sum()) for kind in range(len(KINDS))})
        assert counted == Counter(shape.kind for shape in scene.shapes) or is_crowded(scene)


def is_crowded(scene: Scene) -> bool:
    """Whether two centres of a kind may lie in one cell: a sixth of half the picture."""
    for number, one in enumerate(scene.shapes):
        for other in scene.shapes[:number]:
            near = abs(one.x - other.x) < scene.width / 11 and abs(one.y - other.y) < scene.height / 11
            if one.kind == other.kind and near:
                return True
    return False
