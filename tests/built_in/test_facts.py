"""What is called how, and where it is, in both languages."""

import pytest

from built_in.facts import Facts, box_of, reading_order
from built_in.language import CODES, Code, Name, language
from built_in.printing import Label
from built_in.questions.places import state_boxes
from built_in.questions.telling import describe
from built_in.scenes import Scene, Shape
from tests.built_in.ink import WHITE


def shape(kind: str, colour: str, x: float, y: float, size: str = "small", radius: float = 5.0) -> Shape:
    return Shape(kind, colour, size, x, y, radius, 0.0, (0, 0, 0))


def label_at(text: str, x: float, y: float, colour: str = "red") -> Label:
    boxes = tuple((x - 10, y - 7, x + 10, y + 7) for _ in text)
    return Label(text, "DejaVuSans", colour, x, y, 14, (200, 0, 0), boxes)


def scene_of(*shapes: Shape, labels: tuple[Label, ...] = ()) -> Scene:
    return Scene(100, 100, WHITE, shapes=shapes, labels=labels)


def test_a_name_is_as_short_as_it_can_be() -> None:
    shapes = (
        shape("star", "red", 10, 10),
        shape("cross", "red", 50, 10),
        shape("cross", "blue", 90, 10),
        shape("cross", "blue", 90, 90),
        shape("cross", "blue", 50, 50, "large"),
        shape("heart", "blue", 10, 50),
        shape("heart", "blue", 10, 90),
    )
    facts = Facts(scene_of(*shapes))
    assert [facts.name(each) for each in shapes] == [
        Name("star"),
        Name("cross", "red"),
        None,
        None,
        Name("cross", size="large"),
        None,
        None,
    ]


def test_shapes_are_found_by_what_they_are() -> None:
    star, cross, other = shapes = (
        shape("star", "red", 10, 10),
        shape("cross", "red", 50, 10, "large"),
        shape("cross", "blue", 90, 10),
    )
    facts = Facts(scene_of(*shapes))
    assert facts.shapes() == list(shapes)
    assert facts.shapes(kind="cross") == [cross, other]
    assert facts.shapes(colour="red") == [star, cross]
    assert facts.shapes(colour="red", kind="cross") == facts.shapes(size="large") == [cross]


def test_a_colour_belongs_to_one_thing_only_where_no_print_has_it() -> None:
    red, blue = shape("star", "red", 10, 10), shape("cross", "blue", 50, 10)
    assert Facts(scene_of(red, blue)).is_only_colour("red")
    assert not Facts(scene_of(red, blue, labels=(label_at("CAT", 50, 80),))).is_only_colour("red")
    assert Facts(scene_of(red, blue, labels=(label_at("CAT", 50, 80),))).is_only_colour("blue")


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (10, 10, "top left"),
        (50, 10, "top"),
        (90, 50, "right"),
        (50, 50, "middle"),
        (50, 90, "bottom"),
        (90, 90, "bottom right"),
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


@pytest.mark.parametrize(
    ("x", "y", "sides"),
    [
        (20, 50, {"left"}),
        (80, 50, {"right"}),
        (50, 20, {"above"}),
        (50, 80, {"below"}),
        (20, 20, {"left", "above"}),
        (80, 75, {"right", "below"}),
        (20, 40, {"left"}),  # hardly above
        (46, 52, set()),  # too near to say
    ],
)
def test_a_thing_is_beside_another_only_where_that_is_plain(x: float, y: float, sides: set[str]) -> None:
    anchor, thing = shape("star", "red", 50, 50), shape("cross", "blue", x, y)
    facts = Facts(scene_of(anchor, thing))
    assert set(facts.sides(thing, anchor)) == sides
    assert all(facts.is_possibly(thing, side, anchor) for side in sides)
    assert not any(facts.is_possibly(anchor, side, thing) for side in sides)


def test_what_is_a_little_on_a_side_may_be_meant_too() -> None:
    anchor, thing = shape("star", "red", 50, 50), shape("cross", "blue", 46, 90)
    facts = Facts(scene_of(anchor, thing))
    assert facts.is_possibly(thing, "left", anchor) and "left" not in facts.sides(thing, anchor)


def test_reading_order_goes_by_thirds_and_keeps_lines_together() -> None:
    top, low, left = shape("star", "red", 90, 30), shape("cross", "blue", 10, 90), shape("heart", "blue", 10, 5)
    lines = (label_at("CAT", 50, 10), label_at("DOG", 50, 50))
    assert reading_order(scene_of(top, low, left, labels=lines)) == [left, *lines, top, low]


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("en", 'I see two red crosses, an orange circle, the word "CAT" and a blue star.'),
        ("zh", "我看到2个红色的十字形、1个橙色的圆形、单词“CAT”和1个蓝色的星形。"),
    ],
)
def test_description_goes_in_reading_order_and_puts_equals_together(code: Code, answer: str) -> None:
    shapes = (
        shape("star", "blue", 80, 90),
        shape("circle", "orange", 80, 10),
        shape("cross", "red", 10, 20),
        shape("cross", "red", 90, 60),
    )
    scene = scene_of(*shapes, labels=(label_at("CAT", 50, 50),))
    assert describe(Facts(scene), language(code)) == answer


@pytest.mark.parametrize("code", CODES)
def test_a_single_thing_and_nothing_at_all_are_described(code: Code) -> None:
    alone = describe(Facts(scene_of(shape("circle", "orange", 20, 20))), language(code))
    nothing = describe(Facts(scene_of()), language(code))
    assert alone in ("I see an orange circle.", "我看到1个橙色的圆形。")
    assert nothing in ("I see nothing but the background.", "我只看到背景。")


def test_boxes_are_numbers_of_a_thousand_in_reading_order() -> None:
    one, other = shape("circle", "red", 70, 20, radius=10), shape("circle", "red", 22, 27, radius=10)
    scene = Scene(100, 200, WHITE, shapes=(one, other))
    assert box_of(scene, one) == (600, 50, 800, 150)
    assert box_of(scene, other) == (100, 100, 300, 200)
    assert (
        state_boxes(scene, "circle", [one, other])
        == "<ref>circle</ref><box>100 100 300 200</box><box>600 50 800 150</box>"
    )


def test_a_box_around_something_thin_is_no_line() -> None:
    for y in (3.0, 50.0, 98.5):
        left, top, right, bottom = box_of(scene_of(thin := shape("square", "red", 50, y, radius=1)), thin)
        assert bottom - top == 50 == right - left and top <= y * 10 <= bottom


def test_a_box_does_not_leave_the_picture() -> None:
    scene = scene_of(shape("star", "red", 2, 99, radius=9))
    assert box_of(scene, scene.shapes[0]) == (0, 900, 100, 1000)
