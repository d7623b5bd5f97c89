"""Labels for every patch of a view; `cells.py` has those for the cells of a coarser grid.

A view is the whole picture (overview) or a slice of it; `scene_in_view` returns the scene as a view shows it, which the
other functions take.

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
from omnilmm.prompts.pieces import IGNORED as IGNORED  # label that the losses ignore

ALL_PLACES = tuple(place for row in PLACES for place in row)
EDGES = ("left_edge", "top_edge", "right_edge", "bottom_edge")  # of the box of a thing
EDGE_CLASSES = BOX_GRID // BOX_STEP + 1  # one class per step: the single digits of a coordinate are not learnable
_OF_OVERVIEWS = ("size", "place", "row", "column", *EDGES)
PATCH_LABELS = ("kind", "colour", "left", "right", *_OF_OVERVIEWS)
LEAST_COVER = 0.15  # minimum share of a patch that a thing must cover
LEAST_PART = 0.3  # or minimum share of a character in a patch: narrow ones (I, 1) cover little of it
_SAMPLES = 6  # sample points per side of a patch for computing coverage


def scene_in_view(scene: Scene, view: Box) -> Scene:
    """Return the scene as a view (left, top, right, bottom) shows it: translated, without things outside the view."""
    left, top, right, bottom = view
    width, height = right - left, bottom - top

    def is_visible(box: Box) -> bool:
        return box[0] < width and box[2] > 0 and box[1] < height and box[3] > 0

    shapes = (replace(shape, x=shape.x - left, y=shape.y - top) for shape in scene.shapes)
    labels = []
    for label in scene.labels:
        moved = [(box[0] - left, box[1] - top, box[2] - left, box[3] - top) for box in label.boxes]
        seen = [(character, box) for character, box in zip(label.text, moved, strict=True) if is_visible(box)]
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
        shapes=tuple(shape for shape in shapes if is_visible(shape.box)),
        labels=tuple(labels),
    )


def things_in_patches(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Return the index into scene.things plus one for each patch [R*C], 0 if empty; shapes take precedence."""
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
    """Label each of rows x columns equal patches of the view.

    Args:
        scene: scene as the view shows it.
        rows: rows of patches.
        columns: columns of patches.
        is_overview: whether the view is the whole picture; place and size of a thing are not visible in a slice.

    Returns:
        PATCH_LABELS by name, each [R*C], row by row, 0 for none:
        "kind" (index into KINDS plus one) of the shape that covers most of the patch, and at least 15 % of it;
        "left" and "right" (index into CHARACTERS plus one) of the printed character in each half of it;
        "colour" (index into COLOURS plus one) of that shape, else of the print, else of a bar, a pie or a sign;
        "size" (index into SIZES plus one) of that shape, "place" (index into ALL_PLACES plus one) of it or the printed
        line, "row" and "column" of that line, and EDGES (steps of BOX_STEP plus one) of its box; all IGNORED in slices.
    """
    halves, _ = _characters(scene, rows, columns * 2)
    halves = halves.reshape(-1, 2)
    things = things_in_patches(scene, rows, columns)
    of_panels = _of_most([panel for panel in scene.panels if panel.colour], scene, rows, columns)
    of_things = np.array([0, *(COLOURS.index(thing.colour) + 1 for thing in scene.things)])
    kinds = np.array([0, *(KINDS.index(shape.kind) + 1 for shape in scene.shapes), *[0] * len(scene.labels)])
    targets = {
        "kind": kinds[things],
        "colour": np.where(things > 0, of_things[things], of_panels),
        "left": halves[:, 0],
        "right": halves[:, 1],
    }
    if not is_overview:
        return targets | dict.fromkeys(_OF_OVERVIEWS, np.full(rows * columns, IGNORED))
    return targets | {name: whole[things] for name, whole in _of_things(scene).items()}


def _of_things(scene: Scene) -> dict[str, NDArray[np.int64]]:
    """Return the labels of whole things by name: index 0 for no thing, then one per element of `scene.things`."""
    sizes = [SIZES.index(thing.size) + 1 if isinstance(thing, Shape) else 0 for thing in scene.things]
    places = [ALL_PLACES.index(place_of(scene, thing)) + 1 for thing in scene.things]
    rows, columns = zip((0, 0), *grid_places(scene), strict=True)
    whole = {"size": [0, *sizes], "place": [0, *places], "row": rows, "column": columns}
    boxes = np.array([box_of(scene, thing) for thing in scene.things], np.int64).reshape(-1, 4) // BOX_STEP
    whole |= {edge: [0, *boxes[:, number] + 1] for number, edge in enumerate(EDGES)}
    return {name: np.array(numbers) for name, numbers in whole.items()}


def grid_places(scene: Scene) -> list[tuple[int, int]]:
    """Return the row and column of each of `scene.things`, (0, 0) for shapes."""
    return [(0, 0) if isinstance(thing, Shape) else (thing.row, thing.column) for thing in scene.things]


def _cover(corners: NDArray[np.float64], scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Return the share [R*C] of each patch that a polygon covers."""
    fine = (columns * _SAMPLES, rows * _SAMPLES)
    mask = Image.new("L", fine)
    # A pixel is filled if its centre is inside the polygon.
    scaled = corners * (fine[0] / scene.width, fine[1] / scene.height) - 0.5
    ImageDraw.Draw(mask).polygon(scaled.ravel().tolist(), fill=1)
    patches = np.asarray(mask).reshape(rows, _SAMPLES, columns, _SAMPLES)
    return np.asarray(patches.mean(axis=(1, 3), dtype=np.float32).ravel())


def shape_cover(scene: Scene, rows: int, columns: int) -> NDArray[np.float32]:
    """Return the share [S, R*C] of each patch that each shape covers."""
    if not scene.shapes:
        return np.zeros((0, rows * columns), np.float32)
    return np.stack([_cover(outline(s.kind, s.x, s.y, s.radius, s.angle), scene, rows, columns) for s in scene.shapes])


def _of_most(panels: list[Panel], scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """Return the index into COLOURS plus one of the panel that covers most of each patch [R*C], 0 for none."""
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
    """Return the overlap [M, n] of each interval low..high with each of the n intervals between `edges`."""
    shared = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
    return np.asarray(shared.clip(0, None))


def box_overlap(
    boxes: tuple[Box, ...], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the overlap area [M, rows, columns] of each box with each cell of a grid."""
    left, top, right, bottom = np.array(boxes, np.float64).reshape(-1, 4).T
    return _shared_length(top, bottom, y_edges)[:, :, None] * _shared_length(left, right, x_edges)[:, None, :]


def _characters(scene: Scene, rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index into CHARACTERS plus one of the character in each field [R*C], 0 for none, and its label."""
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
    # [M, R*C], distance from the centre of each character to that of each patch
    away = np.hypot((column + 0.5) * patch_width - (left + right) / 2, (row + 0.5) * patch_height - (top + bottom) / 2)
    # The character with most coverage wins, the nearer one on a tie.
    score = np.where(counts, overlap / (patch_width * patch_height) - 1e-3 * away / scene.unit, -1.0)
    best = score.argmax(axis=0)
    numbers = np.array([CHARACTERS.index(c) + 1 for label in scene.labels for c in label.text], np.int64)
    return np.where(counts.any(axis=0), numbers[best], 0), labels[best]
