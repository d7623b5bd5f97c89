"""What lies where in a view: in every patch, and in the cells of a coarser grid, one per resampler query.

A view is the whole picture (overview) or a slice of it; `seen_through` gives the scene as a view shows it, and the
other functions take that.

Shape legend: S shapes · M characters · R rows of patches · C columns of patches · K cell labels.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from omnilmm.training.facts import place_of
from omnilmm.training.outlines import KINDS, outline
from omnilmm.training.palette import COLOURS
from omnilmm.training.printing import CHARACTERS, Box
from omnilmm.training.scenes import Panel, Scene

PAIRS = len(KINDS) * len(COLOURS)
CELL_LABELS = PAIRS + len(CHARACTERS) + len(KINDS)  # K
CELL_PATCHES, CELLS = 3, 6  # a cell is 3×3 patches; 6×6 cells cover the usual views
PLACE_WORDS = ("top", "bottom", "left", "right", "middle")
# The words for what a cell shows, English and Chinese: characters are spelled without a space in front, English words
# with one, and of a Chinese word the first character tells it from the others.
_CHINESE = (*"圆正三星十心", *"红橙黄绿蓝紫粉黑白")
WORDS = (
    *(f" {word}" for word in (*KINDS, *COLOURS)),
    *CHARACTERS,
    *(f" {word}" for word in PLACE_WORDS),
    *_CHINESE,
)

_LEAST_COVER = 0.15  # of a patch, below which a thing does not count as lying there
_LEAST_PART = 0.3  # of a character, from which on it lies there even so: a narrow one (I, 1) covers little of a patch
_SAMPLES = 6  # points per side of a patch at which the outlines are tried


def seen_through(scene: Scene, view: Box) -> Scene:
    """The scene as a view (left, top, right, bottom) of it shows it: moved, and without what lies outside."""
    left, top, right, bottom = view
    width, height = right - left, bottom - top

    def is_seen(box: Box) -> bool:
        return box[0] < width and box[2] > 0 and box[1] < height and box[3] > 0

    shapes = (replace(shape, x=shape.x - left, y=shape.y - top) for shape in scene.shapes)
    labels = []
    for label in scene.labels:
        moved = [(box[0] - left, box[1] - top, box[2] - left, box[3] - top) for box in label.boxes]
        seen = [(character, box) for character, box in zip(label.text, moved, strict=True) if is_seen(box)]
        if seen:
            text, boxes = "".join(character for character, _ in seen), tuple(box for _, box in seen)
            labels.append(replace(label, text=text, boxes=boxes, x=label.x - left, y=label.y - top))
    return replace(
        scene,
        width=width,
        height=height,
        panels=tuple(
            replace(panel, corners=tuple((x - left, y - top) for x, y in panel.corners)) for panel in scene.panels
        ),
        shapes=tuple(shape for shape in shapes if is_seen(shape.box)),
        labels=tuple(labels),
    )


def patch_labels(scene: Scene, rows: int, columns: int) -> dict[str, NDArray[np.int64]]:
    """Says what lies in each of rows x columns equal patches of the view.

    Returns:
        Four arrays [R*C], row by row, in all of which 0 means nothing:
        "kind" (number in KINDS plus one) of the shape that covers most of the patch, and 15 % of it at least;
        "left" and "right" (number in CHARACTERS plus one) of the printed character in each half of it;
        "colour" (number in COLOURS plus one) of that shape, else of the print, else of a bar or part of a pie.
    """
    halves, owners = (half.reshape(-1, 2) for half in _characters(scene, rows, columns * 2))
    colours = _of_most([panel for panel in scene.panels if panel.colour], scene, rows, columns)
    printed = np.array([COLOURS.index(label.colour) + 1 for label in scene.labels], np.int64)
    if len(printed):
        in_half = (halves > 0).argmax(axis=1)[:, None]
        colours = np.where(
            (halves > 0).any(axis=1), printed[np.take_along_axis(owners, in_half, axis=1)[:, 0]], colours
        )
    kinds = np.zeros(rows * columns, np.int64)
    if scene.shapes:
        cover = _shape_cover(scene, rows, columns)
        most = cover.argmax(axis=0)
        there = cover.max(axis=0) >= _LEAST_COVER
        kind_numbers = np.array([KINDS.index(shape.kind) + 1 for shape in scene.shapes], np.int64)
        colour_numbers = np.array([COLOURS.index(shape.colour) + 1 for shape in scene.shapes], np.int64)
        kinds[there] = kind_numbers[most[there]]
        colours = np.where(there, colour_numbers[most], colours)
    return {"kind": kinds, "colour": colours, "left": halves[:, 0], "right": halves[:, 1]}


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
        found[patch_cells[cover >= _LEAST_COVER], pair] = 1
        if 0 <= shape.x < scene.width and 0 <= shape.y < scene.height:
            centre = _cell_at(scene, shape.x, shape.y, rows, columns)
            found[centre, pair] = 1
            found[centre, PAIRS + len(CHARACTERS) + kind] = 1
    x_edges = np.append(np.arange(column_cells[-1] + 1) * CELL_PATCHES, columns) * (scene.width / columns)
    y_edges = np.append(np.arange(row_cells[-1] + 1) * CELL_PATCHES, rows) * (scene.height / rows)
    for label in scene.labels:
        overlaps = _box_overlap(label.boxes, x_edges, y_edges)
        for character, box, overlap in zip(label.text, label.boxes, overlaps, strict=True):
            entry = PAIRS + CHARACTERS.index(character)
            there_rows, there_columns = np.nonzero(overlap >= _LEAST_PART * (box[2] - box[0]) * (box[3] - box[1]))
            found[there_rows * CELLS + there_columns, entry] = 1
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            if 0 <= x < scene.width and 0 <= y < scene.height:
                found[_cell_at(scene, x, y, rows, columns), entry] = 1
    return found


def cell_words(
    scene: Scene, cells: NDArray[np.float32], rows: int, columns: int, *, is_overview: bool = True
) -> NDArray[np.float32]:
    """Says which of WORDS an answer about each cell would use.

    Args:
        scene: what the view shows.
        cells: the `cell_labels` of the scene, [CELLS*CELLS, K].
        rows: of patches.
        columns: of patches.
        is_overview: whether the view is the whole picture: only there it is plain where in it a thing is.

    Returns:
        Zeros and ones [CELLS*CELLS, len(WORDS)].
    """
    pairs = cells[:, :PAIRS].reshape(len(cells), len(KINDS), len(COLOURS))
    characters = cells[:, PAIRS : PAIRS + len(CHARACTERS)]
    places = np.zeros((len(cells), len(PLACE_WORDS)), dtype=np.float32)
    for thing in scene.things if is_overview else ():
        said = place_of(scene, thing).split()
        places[_cell_at(scene, thing.x, thing.y, rows, columns)] = [word in said for word in PLACE_WORDS]
    kinds, colours = pairs.max(axis=2), pairs.max(axis=1)
    return np.concatenate([kinds, colours, characters, places, kinds, colours], axis=1)


def _cells_of(patches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row or column of cells that rows or columns of patches belong to."""
    return np.minimum(patches // CELL_PATCHES, CELLS - 1)


def _cell_at(scene: Scene, x: float, y: float, rows: int, columns: int) -> int:
    """Number of the cell that a point of the view lies in."""
    row, column = int(y / scene.height * rows), int(x / scene.width * columns)
    return min(row // CELL_PATCHES, CELLS - 1) * CELLS + min(column // CELL_PATCHES, CELLS - 1)


def _cover(corners: NDArray[np.float64], scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Share [R*C] of each patch that a polygon covers."""
    fine = (columns * _SAMPLES, rows * _SAMPLES)
    mask = Image.new("L", fine)
    # A pixel is filled where its middle lies within.
    scaled = corners * (fine[0] / scene.width, fine[1] / scene.height) - 0.5
    ImageDraw.Draw(mask).polygon(scaled.ravel().tolist(), fill=1)
    patches = np.asarray(mask).reshape(rows, _SAMPLES, columns, _SAMPLES)
    return np.asarray(patches.mean(axis=(1, 3), dtype=np.float32).ravel())


def _shape_cover(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Share [S, R*C] of each patch that each shape covers."""
    if not scene.shapes:
        return np.zeros((0, rows * columns), np.float32)
    return np.stack([_cover(outline(s.kind, s.x, s.y, s.radius, s.angle), scene, rows, columns) for s in scene.shapes])


def _of_most(panels: list[Panel], scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Number in COLOURS plus one of the panel that covers most of each patch [R*C], 0 where none does."""
    colours = np.zeros(rows * columns, np.int64)
    most = np.full(rows * columns, _LEAST_COVER, np.float32)
    for panel in panels:
        cover = _cover(np.array(panel.corners), scene, rows, columns)
        colours[cover >= most] = COLOURS.index(str(panel.colour)) + 1
        most = np.maximum(most, cover)
    return colours


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


def _characters(scene: Scene, rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number in CHARACTERS plus one of the character in each field [R*C], 0 for none; and of which label it is."""
    if not scene.labels:
        return np.zeros(rows * columns, np.int64), np.zeros(rows * columns, np.int64)
    boxes = tuple(box for label in scene.labels for box in label.boxes)
    labels = np.repeat(np.arange(len(scene.labels)), [len(label.text) for label in scene.labels])
    patch_width, patch_height = scene.width / columns, scene.height / rows
    left, top, right, bottom = np.array(boxes, np.float64).T[..., None]  # [M, 1] each
    overlap = _box_overlap(
        boxes, np.linspace(0, scene.width, columns + 1), np.linspace(0, scene.height, rows + 1)
    ).reshape(len(left), -1)
    areas = (right - left) * (bottom - top)
    counts = (overlap >= _LEAST_COVER * patch_width * patch_height) | (overlap >= _LEAST_PART * areas)
    row, column = np.divmod(np.arange(rows * columns), columns)
    # [M, R*C], from the middle of each character to that of each patch
    away = np.hypot((column + 0.5) * patch_width - (left + right) / 2, (row + 0.5) * patch_height - (top + bottom) / 2)
    # Most cover wins; where two cover the same, the nearer one.
    score = np.where(counts, overlap / (patch_width * patch_height) - 1e-3 * away / scene.unit, -1.0)
    best = score.argmax(axis=0)
    numbers = np.array([CHARACTERS.index(c) + 1 for label in scene.labels for c in label.text], np.int64)
    return np.where(counts.any(axis=0), numbers[best], 0), labels[best]
