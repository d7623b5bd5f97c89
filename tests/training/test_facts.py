"""What is called how, and where it is."""

import pytest

from omnilmm.training.facts import NOTHING, Facts, describe
from omnilmm.training.palette import Background
from omnilmm.training.printing import Label
from omnilmm.training.scenes import Scene, Shape

PLAIN = Background("plain", (255, 255, 255), (255, 255, 255), 0.0, 9.0)


def shape(kind: str, colour: str, x: float, y: float) -> Shape:
    return Shape(kind, colour, "small", x, y, 5.0, 0.0, (0, 0, 0))


def scene_of(*shapes: Shape, label: Label | None = None) -> Scene:
    return Scene(100, 100, PLAIN, shapes, label, 0.0, 0.0, 0, 1)


def test_a_name_is_as_short_as_it_can_be() -> None:
    star, red, blue, other_blue = shapes = (
        shape("star", "red", 10, 10),
        shape("cross", "red", 50, 10),
        shape("cross", "blue", 90, 10),
        shape("cross", "blue", 90, 90),
    )
    facts = Facts(scene_of(*shapes))
    assert [facts.name(each) for each in shapes] == ["star", "red cross", None, None]
    assert facts.shapes(kind="cross") == [red, blue, other_blue]
    assert facts.shapes(colour="red") == [star, red]
    assert facts.shapes(colour="red", kind="cross") == [red]


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (10, 10, "at the top left"),
        (50, 10, "at the top"),
        (90, 50, "on the right"),
        (50, 50, "in the middle"),
        (50, 90, "at the bottom"),
        (35, 10, None),
        (10, 65, None),
    ],
)
def test_places_are_words_well_within_them(x: float, y: float, place: str | None) -> None:
    thing = shape("star", "red", x, y)
    assert Facts(scene_of(thing)).place(thing) == place


@pytest.mark.parametrize(
    ("thing", "other", "is_alone"),
    [
        ((50, 50), (10, 10), True),
        ((50, 50), (50, 69), False),  # nearly in the middle
        ((10, 10), (90, 10), True),
        ((50, 10), (90, 10), False),  # which is at the top, too
        ((10, 50), (10, 90), False),  # which is on the left, too
    ],
)
def test_what_may_be_meant_by_a_place(thing: tuple[float, float], other: tuple[float, float], is_alone: bool) -> None:
    one = shape("star", "red", *thing)
    assert Facts(scene_of(one, shape("cross", "blue", *other))).is_alone_at_its_place(one) == is_alone


def test_description_goes_in_reading_order_and_puts_equals_together() -> None:
    label = Label("CAT", "DejaVuSans", "red", 50, 50, 14, (200, 0, 0), ((40, 40, 60, 60),) * 3)
    shapes = (
        shape("star", "blue", 80, 90),
        shape("circle", "orange", 80, 10),
        shape("cross", "red", 10, 20),
        shape("cross", "red", 90, 60),
    )
    scene = scene_of(*shapes, label=label)
    assert describe(scene) == "I see two red crosses, an orange circle, the word CAT and a blue star."
    assert describe(scene_of(shapes[1])) == "I see an orange circle."
    assert describe(scene_of()) == NOTHING
