"""Facts about a scene for questions: counts of things, unambiguous names, and places.

Shapes are counted and named among shapes only; a single printed line is "the word" or "the number". A thing close to a
border of the 3 x 3 grid of places has no definite place, and two things are left of, right of, above or below each
other only where that is clear.
"""

import math
from collections import Counter

from built_in.language import Name
from built_in.scenes import Scene, Shape, Thing

PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_BORDER = 0.035  # fraction of the side; a thing closer than this to a border between two places is at neither
BOX_GRID = 1000  # boxes are numbers of 0 to 1000 across and down the picture, as in the family's published models
BOX_STEP = 50  # rounding step: finer edges are hard to learn, and coarser ones still give an overlap of half
_APART = 0.08  # minimum distance of two centres, as a fraction of the unit, for one to be beside the other


def _parts(scene: Scene, thing: Thing) -> tuple[float, float]:
    """Return the relative position (across, down) of the centre of a thing, from 0 to 1."""
    return thing.x / scene.width, thing.y / scene.height


def place_of(scene: Scene, thing: Thing) -> str:
    """Return the one of PLACES that contains the centre of a thing."""
    across, down = _parts(scene, thing)
    return PLACES[int(down * 3)][int(across * 3)]


def box_of(scene: Scene, thing: Thing) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom from 0 to BOX_GRID, rounded to BOX_STEP; thin boxes are rounded outwards."""
    left, top, right, bottom = thing.box
    from_left, to_right = _on_grid(left / scene.width, right / scene.width)
    from_top, to_bottom = _on_grid(top / scene.height, bottom / scene.height)
    return from_left, from_top, to_right, to_bottom


def _on_grid(begin: float, end: float) -> tuple[int, int]:
    steps = BOX_GRID // BOX_STEP
    first, last = (min(max(round(share * steps), 0), steps) for share in (begin, end))
    if first == last:
        first = min(max(math.floor(begin * steps), 0), steps - 1)
        last = first + 1
    return first * BOX_STEP, last * BOX_STEP


def reading_order(scene: Scene) -> list[Thing]:
    """Sort things by top, middle and bottom third, each from left to right; printed lines stay together."""

    def order(thing: Thing) -> tuple[int, float]:
        across, down = _parts(scene, thing)
        return int(down * 3), across

    ordered: list[Thing] = sorted(scene.shapes, key=order)
    if scene.labels:  # all lines of text go to the position of the first one
        first = order(scene.labels[0])
        at = sum(order(shape) < first for shape in ordered)
        ordered[at:at] = scene.labels
    return ordered


class Facts:
    """Facts about a scene.

    Attributes:
        scene: scene of the picture.
        label: its printed text, if that is a single line.
        kinds: number of shapes of each kind.
        colours: number of shapes of each colour.
        pairs: number of shapes of each (colour, kind).
    """

    def __init__(self, scene: Scene) -> None:
        self.scene, self.label = scene, scene.label
        self.kinds = Counter(shape.kind for shape in scene.shapes)
        self.colours = Counter(shape.colour for shape in scene.shapes)
        self.pairs = Counter((shape.colour, shape.kind) for shape in scene.shapes)

    def shapes(self, *, colour: str | None = None, kind: str | None = None, size: str | None = None) -> list[Shape]:
        """Return all shapes of this colour, kind and size."""
        return [
            shape
            for shape in self.scene.shapes
            if colour in (None, shape.colour) and kind in (None, shape.kind) and size in (None, shape.size)
        ]

    def name(self, shape: Shape) -> Name | None:
        """Return the shortest unambiguous name of a shape; None if there is none."""
        if self.kinds[shape.kind] == 1:
            return Name(shape.kind)
        if self.pairs[shape.colour, shape.kind] == 1:
            return Name(shape.kind, shape.colour)
        if len(self.shapes(kind=shape.kind, size=shape.size)) == 1:
            return Name(shape.kind, size=shape.size)
        return None

    def is_only_colour(self, colour: str) -> bool:
        """Return whether exactly one shape, and no printed text or panel, has this colour."""
        return self.colours[colour] == 1 and not self.is_printed_in(colour)

    def is_printed_in(self, colour: str) -> bool:
        """Return whether there is printed text or a panel of this colour."""
        labels, panels = self.scene.labels, self.scene.panels
        return colour in {*(label.colour for label in labels), *(panel.colour for panel in panels)}

    def place(self, thing: Thing) -> str | None:
        """Return the place of a thing's centre; None if it is too close to a border."""
        if any(abs(part - border) < _BORDER for part in _parts(self.scene, thing) for border in (1 / 3, 2 / 3)):
            return None
        return place_of(self.scene, thing)

    def is_alone_at_its_place(self, thing: Thing) -> bool:
        """Return whether no other thing is at or near the place of this thing."""
        column, row = (int(part * 3) for part in _parts(self.scene, thing))

        def is_nearly_there(other: Thing) -> bool:
            across, down = _parts(self.scene, other)
            in_row = row / 3 - _BORDER <= down <= (row + 1) / 3 + _BORDER
            in_column = column / 3 - _BORDER <= across <= (column + 1) / 3 + _BORDER
            # "At the top" may also mean the whole top, "on the left" the whole left side.
            if column == 1 and row != 1:
                return in_row
            if row == 1 and column != 1:
                return in_column
            return in_row and in_column

        return not any(is_nearly_there(other) for other in self.scene.things if other is not thing)

    def sides(self, thing: Thing, anchor: Thing) -> list[str]:
        """Return the one or two sides of another thing on which a thing clearly is."""
        apart = _APART * self.scene.unit
        across, down = thing.x - anchor.x, thing.y - anchor.y
        sides = []
        if abs(across) > apart and abs(across) > 0.5 * abs(down):
            sides.append("left" if across < 0 else "right")
        if abs(down) > apart and abs(down) > 0.5 * abs(across):
            sides.append("above" if down < 0 else "below")
        return sides

    def is_possibly(self, thing: Thing, side: str, anchor: Thing) -> bool:
        """Return whether a thing could be said to be on this side of another."""
        across, down = thing.x - anchor.x, thing.y - anchor.y
        along = {"left": -across, "right": across, "above": -down, "below": down}[side]
        return along > 0.2 * _APART * self.scene.unit
