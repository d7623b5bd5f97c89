"""What lies where in a picture: in every patch, and in the cells of a coarser grid, one per resampler query.

Shape legend: S shapes · M characters · R rows of patches · C columns of patches · K cell labels.
"""

import numpy as np
from numpy.typing import NDArray

from omnilmm.training.facts import place_of
from omnilmm.training.outlines import KINDS, reach
from omnilmm.training.palette import COLOURS
from omnilmm.training.printing import CHARACTERS, Box
from omnilmm.training.scenes import Scene

PAIRS = len(KINDS) * len(COLOURS)
CELL_LABELS = PAIRS + len(CHARACTERS) + len(KINDS)  # K
CELL_PATCHES, CELLS = 3, 5  # a cell is 3×3 patches; 5×5 cells cover every view
PLACE_WORDS = ("top", "bottom", "left", "right", "middle")
# Characters are spelled without a space in front, words with one.
WORDS = (*(f" {word}" for word in (*KINDS, *COLOURS)), *CHARACTERS, *(f" {word}" for word in PLACE_WORDS))

_LEAST_COVER = 0.15  # of a patch, below which a thing does not count as lying there
_LEAST_PART = 0.3  # of a character, from which on it lies there even so: a narrow one (I, 1) covers little of a patch
_SAMPLES = 6  # points per side of a patch at which the outlines are tried


def patch_labels(scene: Scene, rows: int, columns: int) -> dict[str, NDArray[np.int64]]:
    """Says what lies in each of rows x columns equal patches of the picture.

    Returns:
        Three arrays [R*C], row by row, in all of which 0 means nothing:
        "kind" (number in KINDS plus one) of the shape that covers most of the patch, and 15 % of it at least;
        "character" (number in CHARACTERS plus one) of the printed character there;
        "colour" (number in COLOURS plus one) of that shape, or of the character where there is no shape.
    """
    characters = _patch_characters(scene, rows, columns)
    kinds = np.zeros(rows * columns, np.int64)
    colours = np.zeros(rows * columns, np.int64)
    if scene.label is not None:
        colours[characters > 0] = COLOURS.index(scene.label.colour) + 1
    if scene.shapes:
        cover = _shape_cover(scene, rows, columns)
        most = cover.argmax(axis=0)
        there = cover.max(axis=0) >= _LEAST_COVER
        kind_numbers = np.array([KINDS.index(shape.kind) + 1 for shape in scene.shapes], np.int64)
        colour_numbers = np.array([COLOURS.index(shape.colour) + 1 for shape in scene.shapes], np.int64)
        kinds[there] = kind_numbers[most[there]]
        colours[there] = colour_numbers[most[there]]
    return {"kind": kinds, "colour": colours, "character": characters}


def cell_labels(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Says which things lie in each of CELLS x CELLS cells over rows x columns patches.

    Cell (r, c) covers the patch rows from CELL_PATCHES*r on, CELL_PATCHES of them, and the columns likewise; the last
    row and column of cells cover all that remains. Cells past the end of a smaller grid of patches hold nothing.

    Returns:
        Zeros and ones [CELLS*CELLS, K]. First PAIRS entries: a shape of this kind and colour is in the cell (number of
        the kind times len(COLOURS) plus number of the colour); then one per character: printed there, with its middle
        or 30 % of it; then one per kind: the centre of such a shape lies there, which is what to count.
    """
    found = np.zeros((CELLS * CELLS, CELL_LABELS), np.float32)
    row_cells, column_cells = _cells_of(np.arange(rows)), _cells_of(np.arange(columns))
    patch_cells = (row_cells[:, None] * CELLS + column_cells).ravel()
    for shape, cover in zip(scene.shapes, _shape_cover(scene, rows, columns), strict=True):
        kind = KINDS.index(shape.kind)
        pair = kind * len(COLOURS) + COLOURS.index(shape.colour)
        centre = _cell_at(scene, shape.x, shape.y, rows, columns)
        found[patch_cells[cover >= _LEAST_COVER], pair] = 1
        found[centre, pair] = 1
        found[centre, PAIRS + len(CHARACTERS) + kind] = 1
    if scene.label is not None:
        x_edges = np.append(np.arange(column_cells[-1] + 1) * CELL_PATCHES, columns) * (scene.width / columns)
        y_edges = np.append(np.arange(row_cells[-1] + 1) * CELL_PATCHES, rows) * (scene.height / rows)
        overlaps = _box_overlap(scene.label.boxes, x_edges, y_edges)
        for character, box, overlap in zip(scene.label.text, scene.label.boxes, overlaps, strict=True):
            entry = PAIRS + CHARACTERS.index(character)
            there_rows, there_columns = np.nonzero(overlap >= _LEAST_PART * (box[2] - box[0]) * (box[3] - box[1]))
            found[there_rows * CELLS + there_columns, entry] = 1
            found[_cell_at(scene, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, rows, columns), entry] = 1
    return found


def cell_words(scene: Scene, cells: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Says which of WORDS an answer about each cell would use.

    Args:
        scene: what the picture shows.
        cells: the `cell_labels` of the scene, [CELLS*CELLS, K].
        rows: of patches.
        columns: of patches.

    Returns:
        Zeros and ones [CELLS*CELLS, len(WORDS)].
    """
    pairs = cells[:, :PAIRS].reshape(len(cells), len(KINDS), len(COLOURS))
    characters = cells[:, PAIRS : PAIRS + len(CHARACTERS)]
    places = np.zeros((len(cells), len(PLACE_WORDS)), dtype=np.float32)
    for thing in scene.things:
        said = place_of(scene, thing).split()
        places[_cell_at(scene, thing.x, thing.y, rows, columns)] = [word in said for word in PLACE_WORDS]
    return np.concatenate([pairs.max(axis=2), pairs.max(axis=1), characters, places], axis=1)


def _cells_of(patches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row or column of cells that rows or columns of patches belong to."""
    return np.minimum(patches // CELL_PATCHES, CELLS - 1)


def _cell_at(scene: Scene, x: float, y: float, rows: int, columns: int) -> int:
    """Number of the cell that a point of the picture lies in."""
    row, column = int(y / scene.height * rows), int(x / scene.width * columns)
    return min(row // CELL_PATCHES, CELLS - 1) * CELLS + min(column // CELL_PATCHES, CELLS - 1)


def _shape_cover(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Share [S, R*C] of each patch that each shape covers."""
    count = len(scene.shapes)
    if not count:
        return np.zeros((0, rows * columns), np.float32)
    x, y, radius, angle = np.array([(s.x, s.y, s.radius, s.angle) for s in scene.shapes], np.float32).T[..., None, None]
    kinds = np.array([KINDS.index(shape.kind) for shape in scene.shapes])[:, None, None]
    across = (np.arange(columns * _SAMPLES, dtype=np.float32) + 0.5) * (scene.width / (columns * _SAMPLES)) - x
    down = (np.arange(rows * _SAMPLES, dtype=np.float32)[:, None] + 0.5) * (scene.height / (rows * _SAMPLES)) - y
    inside = np.hypot(across, down) <= radius * reach(kinds, np.arctan2(down, across) - angle)
    shares = inside.reshape(count, rows, _SAMPLES, columns, _SAMPLES).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(shares.reshape(count, rows * columns))


def _shared_length(
    low: NDArray[np.float64], high: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Length [M, n] that each interval low..high has in common with each of the n intervals between `edges`."""
    shared = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
    return np.asarray(shared.clip(0, None))


def _box_overlap(
    boxes: tuple[Box, ...], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area [M, rows, columns] that each box shares with each field of a grid."""
    left, top, right, bottom = np.array(boxes, np.float64).reshape(-1, 4).T
    return _shared_length(top, bottom, y_edges)[:, :, None] * _shared_length(left, right, x_edges)[:, None, :]


def _patch_characters(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Number in CHARACTERS plus one of the character in each patch [R*C], 0 for none."""
    if scene.label is None:
        return np.zeros(rows * columns, np.int64)
    patch_width, patch_height = scene.width / columns, scene.height / rows
    left, top, right, bottom = np.array(scene.label.boxes, np.float64).T[..., None]  # [M, 1] each
    overlap = _box_overlap(
        scene.label.boxes, np.linspace(0, scene.width, columns + 1), np.linspace(0, scene.height, rows + 1)
    ).reshape(len(left), -1)
    areas = (right - left) * (bottom - top)
    counts = (overlap >= _LEAST_COVER * patch_width * patch_height) | (overlap >= _LEAST_PART * areas)
    row, column = np.divmod(np.arange(rows * columns), columns)
    # [M, R*C], from the middle of each character to that of each patch
    away = np.hypot((column + 0.5) * patch_width - (left + right) / 2, (row + 0.5) * patch_height - (top + bottom) / 2)
    # Most cover wins; where two cover the same, the nearer one.
    score = np.where(counts, overlap / (patch_width * patch_height) - 1e-3 * away / scene.unit, -1.0)
    numbers = np.array([CHARACTERS.index(character) + 1 for character in scene.label.text], np.int64)
    return np.where(counts.any(axis=0), numbers[score.argmax(axis=0)], 0)
