"""What is true of a scene, as far as questions go: what there is of each sort, what to call a thing, where it is.

Shapes are counted and named among shapes only; the printed text is "the word" or "the number". A thing close to a
border of the 3 x 3 grid of places is at none of them for certain.
"""

from collections import Counter

from omnilmm.training.phrasings import joined, plural, with_article
from omnilmm.training.printing import Label
from omnilmm.training.scenes import Scene, Shape, Thing

PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
NOTHING = "I see nothing but the background."
_BORDER = 0.035  # of the side: closer to a border between two places, a thing is at neither
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six")


def _parts(scene: Scene, thing: Thing) -> tuple[float, float]:
    """How far across and down the picture the centre of a thing is, from 0 to 1."""
    return thing.x / scene.width, thing.y / scene.height


def place_of(scene: Scene, thing: Thing) -> str:
    """Which of PLACES the centre of a thing is at."""
    across, down = _parts(scene, thing)
    return PLACES[int(down * 3)][int(across * 3)]


class Facts:
    """A scene as questions see it.

    Attributes:
        scene: what the picture shows.
        label: its printed text, if there is one.
        kinds: how many shapes there are of each kind,
        colours: in each colour,
        pairs: and of each (colour, kind).
    """

    def __init__(self, scene: Scene) -> None:
        self.scene, self.label = scene, scene.label
        self.kinds = Counter(shape.kind for shape in scene.shapes)
        self.colours = Counter(shape.colour for shape in scene.shapes)
        self.pairs = Counter((shape.colour, shape.kind) for shape in scene.shapes)

    def shapes(self, *, colour: str | None = None, kind: str | None = None) -> list[Shape]:
        """All shapes of this colour and this kind."""
        return [
            shape
            for shape in self.scene.shapes
            if (colour is None or shape.colour == colour) and (kind is None or shape.kind == kind)
        ]

    def name(self, shape: Shape) -> str | None:
        """The shortest name that means this shape alone; None if none does."""
        if self.kinds[shape.kind] == 1:
            return shape.kind
        if self.pairs[shape.colour, shape.kind] == 1:
            return f"{shape.colour} {shape.kind}"
        return None

    def is_only_colour(self, colour: str) -> bool:
        """Whether exactly one thing, printed text included, has this colour, and it is a shape."""
        return self.colours[colour] == 1 and not self.is_printed_in(colour)

    def is_printed_in(self, colour: str) -> bool:
        """Whether there is text of this colour."""
        return self.label is not None and self.label.colour == colour

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


def describe(scene: Scene) -> str:
    """All that is in a scene, in one sentence.

    In reading order (top, middle and bottom third, each from left to right); equal shapes are put together where the
    first of them is; the printed text stands where it is.
    """

    def reading_order(thing: Thing) -> tuple[int, float]:
        across, down = _parts(scene, thing)
        return int(down * 3), across

    pairs = Facts(scene).pairs
    parts: dict[str, None] = {}  # an ordered set: the second of equal shapes adds nothing
    for thing in sorted(scene.things, key=reading_order):
        if isinstance(thing, Label):
            parts[f"the {thing.noun} {thing.text}"] = None
            continue
        name, count = f"{thing.colour} {thing.kind}", pairs[thing.colour, thing.kind]
        parts[with_article(name) if count == 1 else f"{_NUMBERS[count]} {plural(name)}"] = None
    return f"I see {joined(list(parts))}." if parts else NOTHING
