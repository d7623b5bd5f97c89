"""What is true of a scene, as far as questions go: what there is of each sort, what to call a thing, where it is.

Shapes are counted and named among shapes only; a single printed line is "the word" or "the number". A thing close to a
border of the 3 x 3 grid of places is at none of them for certain, and of two things one is left of, right of, above or
below the other only where that is plain.
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
_BORDER = 0.035  # of the side: closer to a border between two places, a thing is at neither
BOX_GRID = 1000  # boxes are numbers of 0 to 1000 across and down the picture, as in the family's published models
BOX_STEP = 50  # rounded to this: finer edges are hard to learn, and half of an overlap is kept by coarser ones, too
_APART = 0.08  # of the unit, between two centres, from which on one is beside the other


def _parts(scene: Scene, thing: Thing) -> tuple[float, float]:
    """How far across and down the picture the centre of a thing is, from 0 to 1."""
    return thing.x / scene.width, thing.y / scene.height


def place_of(scene: Scene, thing: Thing) -> str:
    """Which of PLACES the centre of a thing is at."""
    across, down = _parts(scene, thing)
    return PLACES[int(down * 3)][int(across * 3)]


def box_of(scene: Scene, thing: Thing) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of 0 to BOX_GRID, rounded to BOX_STEP; what is thinner is rounded outwards."""
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
    """Things by top, middle and bottom third, each from left to right; printed lines from top to bottom."""

    def order(thing: Thing) -> tuple[int, float]:
        across, down = _parts(scene, thing)
        return int(down * 3), across

    ordered: list[Thing] = sorted(scene.shapes, key=order)
    if scene.labels:  # the text stands together, where its first line is
        first = order(scene.labels[0])
        at = sum(order(shape) < first for shape in ordered)
        ordered[at:at] = scene.labels
    return ordered


class Facts:
    """A scene as questions see it.

    Attributes:
        scene: what the picture shows.
        label: its printed text, if that is one line.
        kinds: how many shapes there are of each kind,
        colours: in each colour,
        pairs: and of each (colour, kind).
    """

    def __init__(self, scene: Scene) -> None:
        self.scene, self.label = scene, scene.label
        self.kinds = Counter(shape.kind for shape in scene.shapes)
        self.colours = Counter(shape.colour for shape in scene.shapes)
        self.pairs = Counter((shape.colour, shape.kind) for shape in scene.shapes)

    def shapes(self, *, colour: str | None = None, kind: str | None = None, size: str | None = None) -> list[Shape]:
        """All shapes of this colour, this kind and this size."""
        return [
            shape
            for shape in self.scene.shapes
            if colour in (None, shape.colour) and kind in (None, shape.kind) and size in (None, shape.size)
        ]

    def name(self, shape: Shape) -> Name | None:
        """The shortest name that means this shape alone; None if none does."""
        if self.kinds[shape.kind] == 1:
            return Name(shape.kind)
        if self.pairs[shape.colour, shape.kind] == 1:
            return Name(shape.kind, shape.colour)
        if len(self.shapes(kind=shape.kind, size=shape.size)) == 1:
            return Name(shape.kind, size=shape.size)
        return None

    def is_only_colour(self, colour: str) -> bool:
        """Whether exactly one thing, printed text included, has this colour, and it is a shape."""
        return self.colours[colour] == 1 and not self.is_printed_in(colour)

    def is_printed_in(self, colour: str) -> bool:
        """Whether there is text of this colour, or a sign."""
        labels, panels = self.scene.labels, self.scene.panels
        return colour in {*(label.colour for label in labels), *(panel.colour for panel in panels)}

    def place(self, thing: Thing) -> str | None:
        """Where a thing's centre is, in words; None too close to a border to say."""
        if any(abs(part - border) < _BORDER for part in _parts(self.scene, thing) for border in (1 / 3, 2 / 3)):
            return None
        return place_of(self.scene, thing)

    def is_alone_at_its_place(self, thing: Thing) -> bool:
        """Whether nothing else is where this thing is, not even nearly."""
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
        """On which sides of another a thing plainly is: the one or two that nobody would deny."""
        apart = _APART * self.scene.unit
        across, down = thing.x - anchor.x, thing.y - anchor.y
        sides = []
        if abs(across) > apart and abs(across) > 0.5 * abs(down):
            sides.append("left" if across < 0 else "right")
        if abs(down) > apart and abs(down) > 0.5 * abs(across):
            sides.append("above" if down < 0 else "below")
        return sides

    def is_possibly(self, thing: Thing, side: str, anchor: Thing) -> bool:
        """Whether somebody might say that a thing is on this side of another."""
        across, down = thing.x - anchor.x, thing.y - anchor.y
        along = {"left": -across, "right": across, "above": -down, "below": down}[side]
        return along > 0.2 * _APART * self.scene.unit
