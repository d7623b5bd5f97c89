"""Labels for every cell of a view: a grid coarser than the patches, with one cell per resampler query.

A view is the whole picture (overview) or a slice of it; all functions take the scene as the view shows it
(`labels.scene_in_view`).

Shape legend: Q = CELLS x CELLS cells · K cell labels · R rows of patches · C columns of patches.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from built_in.facts import BOX_STEP, box_of, place_of
from built_in.labels import (
    IGNORED,
    LEAST_COVER,
    LEAST_PART,
    box_overlap,
    grid_places,
    shape_cover,
    things_in_patches,
)
from built_in.outlines import KINDS
from built_in.palette import COLOURS
from built_in.printing import CHARACTERS
from built_in.scenes import SIZES, Scene, Shape

PAIRS = len(KINDS) * len(COLOURS)
CELL_LABELS = PAIRS + len(CHARACTERS) + len(KINDS)  # K
CELL_PATCHES, CELLS = 3, 6  # a cell is 3×3 patches; 6×6 cells cover the usual views
CELL_PRINT = 6  # maximum number of characters in a cell whose order is labelled
PLACE_WORDS = ("top", "bottom", "left", "right", "middle")
_CHINESE_PLACES = {"top": "上", "bottom": "下", "left": "左", "right": "右"}  # "middle" shares 中 with the medium size
_CHINESE_SIZES = dict(zip(SIZES, "小中大", strict=True))
# The words for the content of a cell, English and Chinese: printed characters have no leading space, English words have
# one, and Chinese words are represented by their first character, which is distinctive.
_CHINESE = (*"圆正三星十心", *"红橙黄绿蓝紫粉黑白")
WORDS = (
    *(f" {word}" for word in (*KINDS, *COLOURS)),
    *CHARACTERS,
    *(f" {word}" for word in (*PLACE_WORDS, *SIZES)),
    *_CHINESE,
    *_CHINESE_PLACES.values(),
    *_CHINESE_SIZES.values(),
)


def about_cells(scene: Scene, rows: int, columns: int, *, is_overview: bool) -> dict[str, NDArray[Any]]:
    """Return all labels of the cells of a view of rows x columns patches: labels, words, boxes, print and grid."""
    return {
        "labels": cell_labels(scene, rows, columns),
        "words": cell_words(scene, rows, columns, is_overview=is_overview),
        "boxes": cell_boxes(scene, rows, columns) if is_overview else np.full((CELLS**2, 4), IGNORED),
        "print": cell_print(scene, rows, columns),
        "grid": cell_grid(scene, rows, columns) if is_overview else np.full((CELLS**2, 2), IGNORED),
    }


def nothing_in_cells() -> dict[str, NDArray[Any]]:
    """Return the same labels for a view without content."""
    return {
        "labels": np.zeros((CELLS**2, CELL_LABELS), np.float32),
        "words": np.zeros((CELLS**2, len(WORDS)), np.float32),
        "boxes": np.full((CELLS**2, 4), IGNORED),
        "print": np.zeros((CELLS**2, CELL_PRINT), np.int64),
        "grid": np.zeros((CELLS**2, 2), np.int64),
    }


def cell_labels(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Label the things in each of CELLS x CELLS cells over rows x columns patches.

    Cell (r, c) covers CELL_PATCHES patch rows from CELL_PATCHES*r on, and columns likewise; the last row and column of
    cells cover the remaining patches. Cells beyond a smaller grid of patches are empty.

    Returns:
        Zeros and ones [CELLS*CELLS, K]. First PAIRS entries: a shape of this kind and colour is in the cell (index of
        the kind times len(COLOURS) plus index of the colour); then one per character: its centre or 30 % of it is in
        the cell; then one per kind: the centre of such a shape is in the cell, for counting.
    """
    found = np.zeros((CELLS * CELLS, CELL_LABELS), np.float32)
    row_cells, column_cells = _cells_of(np.arange(rows)), _cells_of(np.arange(columns))
    patch_cells = cells_of_patches(rows, columns)
    for shape, cover in zip(scene.shapes, shape_cover(scene, rows, columns), strict=True):
        kind = KINDS.index(shape.kind)
        pair = kind * len(COLOURS) + COLOURS.index(shape.colour)
        found[patch_cells[cover >= LEAST_COVER], pair] = 1
        if 0 <= shape.x < scene.width and 0 <= shape.y < scene.height:
            centre = _cell_at(scene, shape.x, shape.y, rows, columns)
            found[centre, pair] = 1
            found[centre, PAIRS + len(CHARACTERS) + kind] = 1
    x_edges = np.append(np.arange(column_cells[-1] + 1) * CELL_PATCHES, columns) * (scene.width / columns)
    y_edges = np.append(np.arange(row_cells[-1] + 1) * CELL_PATCHES, rows) * (scene.height / rows)
    for label in scene.labels:
        overlaps = box_overlap(label.boxes, x_edges, y_edges)
        for character, box, overlap in zip(label.text, label.boxes, overlaps, strict=True):
            entry = PAIRS + CHARACTERS.index(character)
            there_rows, there_columns = np.nonzero(overlap >= LEAST_PART * (box[2] - box[0]) * (box[3] - box[1]))
            found[there_rows * CELLS + there_columns, entry] = 1
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            if 0 <= x < scene.width and 0 <= y < scene.height:
                found[_cell_at(scene, x, y, rows, columns), entry] = 1
    return found


def cell_words(scene: Scene, rows: int, columns: int, *, is_overview: bool = True) -> NDArray[np.float32]:
    """Label which of WORDS an answer about each cell would use.

    Each cell describes a single thing, so that colour and shape belong together.

    Args:
        scene: scene as the view shows it.
        rows: rows of patches.
        columns: columns of patches.
        is_overview: whether the view is the whole picture; only there the place and size of a thing are known.

    Returns:
        Zeros and ones [CELLS*CELLS, len(WORDS)].
    """
    kinds, colours, characters, words = (
        np.zeros((CELLS * CELLS, count), np.float32)
        for count in (len(KINDS), len(COLOURS), len(CHARACTERS), len(PLACE_WORDS) + len(SIZES))
    )
    for cell, number in _things_of_cells(scene, rows, columns).items():
        thing = scene.things[number]
        colours[cell, COLOURS.index(thing.colour)] = 1
        if is_overview:
            words[cell, [PLACE_WORDS.index(word) for word in place_of(scene, thing).split()]] = 1
        if isinstance(thing, Shape):
            kinds[cell, KINDS.index(thing.kind)] = 1
            words[cell, len(PLACE_WORDS) + SIZES.index(thing.size)] = is_overview
    for cell, numbers in _characters_of_cells(scene, rows, columns).items():
        characters[cell, numbers] = 1
    in_chinese = words[:, [*map(PLACE_WORDS.index, _CHINESE_PLACES), *range(len(PLACE_WORDS), words.shape[1])]]
    return np.concatenate([kinds, colours, characters, words, kinds, colours, in_chinese], axis=1)


def cell_boxes(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Label the box of the thing in each cell.

    Args:
        scene: scene as the overview shows it; the position of a slice in the picture is not visible.
        rows: rows of patches.
        columns: columns of patches.

    Returns:
        Steps of BOX_STEP [Q, 4]: left, top, right and bottom; IGNORED for empty cells.
    """
    boxes = np.full((CELLS * CELLS, 4), IGNORED)
    for cell, number in _things_of_cells(scene, rows, columns).items():
        boxes[cell] = np.array(box_of(scene, scene.things[number])) // BOX_STEP
    return boxes


def cell_grid(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Label the row and column, within a text, table or chart, of the printed line in each cell.

    Returns:
        Numbers [Q, 2], 0 without a printed line.
    """
    grid, places = np.zeros((CELLS * CELLS, 2), np.int64), grid_places(scene)
    for cell, number in _things_of_cells(scene, rows, columns).items():
        grid[cell] = places[number]
    return grid


def cell_print(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Label the characters whose centre is in each cell, in reading order.

    Returns:
        Indices into CHARACTERS plus one [Q, CELL_PRINT], 0 after the last; IGNORED if there are more.
    """
    printed = np.zeros((CELLS * CELLS, CELL_PRINT), np.int64)
    for cell, characters in _characters_of_cells(scene, rows, columns).items():
        if len(characters) <= CELL_PRINT:
            printed[cell, : len(characters)] = np.array(characters) + 1
        else:
            printed[cell] = IGNORED
    return printed


def _characters_of_cells(scene: Scene, rows: int, columns: int) -> dict[int, list[int]]:
    """Map cells to the indices into CHARACTERS of the characters centred in them, in reading order."""
    found = defaultdict(list)
    for label in scene.labels:
        for character, (left, top, right, bottom) in zip(label.text, label.boxes, strict=True):
            x, y = (left + right) / 2, (top + bottom) / 2
            if 0 <= x < scene.width and 0 <= y < scene.height:
                found[_cell_at(scene, x, y, rows, columns)].append(CHARACTERS.index(character))
    return found


def _things_of_cells(scene: Scene, rows: int, columns: int) -> dict[int, int]:
    """Map each cell to the index into `scene.things` of the thing it describes.

    This is the thing in most of its patches. A thing without a cell then takes the one that contains most of it, from a
    thing that has several.
    """
    things, cells = things_in_patches(scene, rows, columns), cells_of_patches(rows, columns)
    patches = Counter((cell, thing - 1) for cell, thing in zip(cells.tolist(), things.tolist(), strict=True) if thing)
    owners = {cell: thing for (cell, thing), _ in sorted(patches.items(), key=lambda item: item[1])}
    for thing in {thing for _, thing in patches} - set(owners.values()):
        had = Counter(owners.values())
        free = [(count, cell) for (cell, other), count in patches.items() if other == thing and had[owners[cell]] > 1]
        if free:
            owners[max(free)[1]] = thing
    return owners


def cells_of_patches(rows: int, columns: int) -> NDArray[np.int64]:
    """Return the index of the cell of each patch, [R*C]."""
    return (_cells_of(np.arange(rows))[:, None] * CELLS + _cells_of(np.arange(columns))).ravel()


def _cells_of(patches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cell rows (or columns) of patch rows (or columns)."""
    return np.minimum(patches // CELL_PATCHES, CELLS - 1)


def _cell_at(scene: Scene, x: float, y: float, rows: int, columns: int) -> int:
    """Return the index of the cell that contains a point of the view."""
    row, column = int(y / scene.height * rows), int(x / scene.width * columns)
    return min(row // CELL_PATCHES, CELLS - 1) * CELLS + min(column // CELL_PATCHES, CELLS - 1)
