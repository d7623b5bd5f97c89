"""What lies in every patch of a view; `cells.py` says it of the cells of a coarser grid.

A view is the whole picture (overview) or a slice of it; `seen_through` gives the scene as a view shows it, and the
other functions take that.

Shape legend: S shapes · M characters · R rows of patches · C columns of patches.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from built_in.facts import BOX_GRID, BOX_STEP, PLACES, box_of, place_of
from built_in.outlines import KINDS, outline
from built_in.palette import COLOURS
from built_in.printing import CHARACTERS, Box
from built_in.scenes import SIZES, Panel, Scene, Shape

IGNORED = -100  # label of what no loss counts
ALL_PLACES = tuple(place for row in PLACES for place in row)
EDGES = ("left_edge", "top_edge", "right_edge", "bottom_edge")  # of a thing's box
EDGE_CLASSES = BOX_GRID // BOX_STEP + 1  # a place each: single digits are not learnt, since the last goes to and fro
_OF_OVERVIEWS = ("size", "place", "row", "column", *EDGES)
PATCH_LABELS = ("kind", "colour", "left", "right", *_OF_OVERVIEWS)
LEAST_COVER = 0.15  # of a patch, below which a thing does not count as lying there
LEAST_PART = 0.3  # of a character, from which on it lies there even so: a narrow one (I, 1) covers little of a patch
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


def things_in_patches(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Number in scene.things plus one of what lies in each patch [R*C], 0 where nothing does; shapes before print."""
    things = np.zeros(rows * columns, np.int64)
    if scene.labels:
        halves, owners = (half.reshape(-1, 2) for half in _characters(scene, rows, columns * 2))
        first = (halves > 0).argmax(axis=1)[:, None]
        owner = np.take_along_axis(owners, first, axis=1)[:, 0]
        things = np.where((halves > 0).any(axis=1), owner + len(scene.shapes) + 1, things)
    if scene.shapes:
        cover = shape_cover(scene, rows, columns)
        things = np.where(cover.max(axis=0) >= LEAST_COVER, cover.argmax(axis=0) + 1, things)
    return things


def patch_labels(scene: Scene, rows: int, columns: int, *, is_overview: bool = True) -> dict[str, NDArray[np.int64]]:
    """Says what lies in each of rows x columns equal patches of the view.

    Args:
        scene: what the view shows.
        rows: of patches.
        columns: of patches.
        is_overview: whether the view is the whole picture: a slice does not show where in it a thing is, or how large.

    Returns:
        PATCH_LABELS by name, each [R*C], row by row, in all of which 0 means nothing:
        "kind" (number in KINDS plus one) of the shape that covers most of the patch, and 15 % of it at least;
        "left" and "right" (number in CHARACTERS plus one) of the printed character in each half of it;
        "colour" (number in COLOURS plus one) of that shape, else of the print, else of a bar, a pie or a sign;
        "size" (number in SIZES plus one) of that shape, "place" (number in ALL_PLACES plus one) of it or the printed
        line, "row" and "column" of that line, and EDGES (steps of BOX_STEP plus one) of its box; in slices all IGNORED.
    """
    halves, _ = _characters(scene, rows, columns * 2)
    halves = halves.reshape(-1, 2)
    things = things_in_patches(scene, rows, columns)
    of_panels = _of_most([panel for panel in scene.panels if panel.colour], scene, rows, columns)
    of_things = np.array([0, *(COLOURS.index(thing.colour) + 1 for thing in scene.things)])
    kinds = np.array([0, *(KINDS.index(shape.kind) + 1 for shape in scene.shapes), *[0] * len(scene.labels)])
    told = {
        "kind": kinds[things],
        "colour": np.where(things > 0, of_things[things], of_panels),
        "left": halves[:, 0],
        "right": halves[:, 1],
    }
    if not is_overview:
        return told | dict.fromkeys(_OF_OVERVIEWS, np.full(rows * columns, IGNORED))
    return told | {name: whole[things] for name, whole in _of_things(scene).items()}


def _of_things(scene: Scene) -> dict[str, NDArray[np.int64]]:
    """What holds for all of a thing, by name; first for none, then for each of `scene.things`."""
    sizes = [SIZES.index(thing.size) + 1 if isinstance(thing, Shape) else 0 for thing in scene.things]
    places = [ALL_PLACES.index(place_of(scene, thing)) + 1 for thing in scene.things]
    rows, columns = zip((0, 0), *grid_places(scene), strict=True)
    whole = {"size": [0, *sizes], "place": [0, *places], "row": rows, "column": columns}
    boxes = np.array([box_of(scene, thing) for thing in scene.things], np.int64).reshape(-1, 4) // BOX_STEP
    whole |= {edge: [0, *boxes[:, number] + 1] for number, edge in enumerate(EDGES)}
    return {name: np.array(numbers) for name, numbers in whole.items()}


def grid_places(scene: Scene) -> list[tuple[int, int]]:
    """Row and column of each of `scene.things` that is print, (0, 0) for a shape."""
    return [(0, 0) if isinstance(thing, Shape) else (thing.row, thing.column) for thing in scene.things]


def _cover(corners: NDArray[np.float64], scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Share [R*C] of each patch that a polygon covers."""
    fine = (columns * _SAMPLES, rows * _SAMPLES)
    mask = Image.new("L", fine)
    # A pixel is filled where its middle lies within.
    scaled = corners * (fine[0] / scene.width, fine[1] / scene.height) - 0.5
    ImageDraw.Draw(mask).polygon(scaled.ravel().tolist(), fill=1)
    patches = np.asarray(mask).reshape(rows, _SAMPLES, columns, _SAMPLES)
    return np.asarray(patches.mean(axis=(1, 3), dtype=np.float32).ravel())


def shape_cover(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Share [S, R*C] of each patch that each shape covers."""
    if not scene.shapes:
        return np.zeros((0, rows * columns), np.float32)
    return np.stack([_cover(outline(s.kind, s.x, s.y, s.radius, s.angle), scene, rows, columns) for s in scene.shapes])


def _of_most(panels: list[Panel], scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Number in COLOURS plus one of the panel that covers most of each patch [R*C], 0 where none does."""
    colours = np.zeros(rows * columns, np.int64)
    most = np.full(rows * columns, LEAST_COVER, np.float32)
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


def box_overlap(
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
    overlap = box_overlap(
        boxes, np.linspace(0, scene.width, columns + 1), np.linspace(0, scene.height, rows + 1)
    ).reshape(len(left), -1)
    areas = (right - left) * (bottom - top)
    counts = (overlap >= LEAST_COVER * patch_width * patch_height) | (overlap >= LEAST_PART * areas)
    row, column = np.divmod(np.arange(rows * columns), columns)
    # [M, R*C], from the middle of each character to that of each patch
    away = np.hypot((column + 0.5) * patch_width - (left + right) / 2, (row + 0.5) * patch_height - (top + bottom) / 2)
    # Most cover wins; where two cover the same, the nearer one.
    score = np.where(counts, overlap / (patch_width * patch_height) - 1e-3 * away / scene.unit, -1.0)
    best = score.argmax(axis=0)
    numbers = np.array([CHARACTERS.index(c) + 1 for label in scene.labels for c in label.text], np.int64)
    return np.where(counts.any(axis=0), numbers[best], 0), labels[best]
