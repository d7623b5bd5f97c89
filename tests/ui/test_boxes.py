"""Marks in answers become regions, and nothing else of the answer is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omnilmm.ui.boxes import COLOURS, Region, colours, names, parts, regions, with_chips
from omnilmm.ui.drawing import with_regions
from omnilmm.ui.streamlit_page.messages import CHIPS

STAR = "<ref>red star</ref><box>100 200 300 400</box>"


def chips(answer: str, *, is_partial: bool = False) -> str:
    return with_chips(answer, lambda name, colour: f"[{name}/{colour}]", is_partial=is_partial)


def test_a_named_box_is_a_region() -> None:
    assert regions(STAR) == [Region("box", "red star", ((0.1, 0.2), (0.3, 0.4)))]
    assert chips(f"Here: {STAR}.") == "Here: [red star/0]."


def test_text_between_two_boxes_is_kept() -> None:
    answer = f"{STAR} is left of <ref>dot</ref><box>500 0 600 100</box>, and that is all."
    assert chips(answer) == "[red star/0] is left of [dot/1], and that is all."


def test_boxes_in_a_row_share_the_name_before_the_first() -> None:
    several = regions(
        "<ref>stars</ref><box>0 0 10 10</box><box>20 20 30 30</box> <box>1 1 2 2</box> and <box>5 5 6 6</box>"
    )
    assert [region.label for region in several] == ["stars"] * 4
    assert chips("<ref>stars</ref><box>0 0 9 9</box><box>20 20 30 30</box>, both red") == "[stars/0], both red"
    apart = regions("<ref>stars</ref><box>0 0 10 10</box> while here <box>1 1 2 2</box>")
    assert [region.label for region in apart] == ["stars", ""]
    assert names(apart) == ["stars", "2"]


def test_what_is_called_the_same_has_the_same_colour() -> None:
    answer = f"{STAR} and <ref>dot</ref><box>1 1 2 2</box>, then {STAR} and nameless <box>5 5 6 6</box>"
    assert chips(answer) == "[red star/0] and [dot/1], then [red star/0] and nameless [4/2]"
    assert colours(regions(answer)) == [0, 1, 0, 2]


def test_after_the_last_colour_the_first_one_comes_again() -> None:
    count = len(COLOURS) + 2
    many = regions(" ".join(f"<ref>{letter}</ref><box>0 0 9 9</box>" for letter in "abcdefghijkl"[:count]))
    assert colours(many) == [*range(len(COLOURS)), 0, 1]
    with_regions(Image.new("RGB", (50, 50)), many)  # each is drawn in a colour that there is
    assert len(CHIPS) == len(COLOURS), "Streamlit's chips have names of colours of their own"


@pytest.mark.parametrize(
    "written",
    [
        "100 200 300 400",
        "100,200,300,400",
        "(100, 200), (300, 400)",
        "[100 200 300 400]",
        " 300 400 100 200 ",
        "100.0 200 300 400",
    ],
)
def test_numbers_may_be_written_in_other_ways(written: str) -> None:
    assert regions(f"<box>{written}</box>")[0].points == ((0.1, 0.2), (0.3, 0.4))


def test_quads_and_points() -> None:
    quad, point = regions("<ref>sign</ref><quad>0 0 500 10 500 500 0 490</quad><point>1000 250</point>")
    assert quad.kind == "quad" and len(quad.points) == 4 and quad.points[1] == (0.5, 0.01)
    assert point == Region("point", "sign", ((1.0, 0.25),))


@pytest.mark.parametrize(
    "odd",
    [
        "<box>1 2 3</box>",
        "<box>1 2 3 1001</box>",
        "<box>a b c d</box>",
        "<box>-1 2 3 4</box>",
        "<box></box>",
        "<point>1</point>",
    ],
)
def test_what_is_no_mark_stays_as_it_is(odd: str) -> None:
    assert chips(f"before {odd} after") == f"before {odd} after"


def test_a_name_without_a_box_is_text() -> None:
    assert chips("A <ref>star</ref> somewhere") == "A star somewhere"


@pytest.mark.parametrize("end", range(len(STAR) + 1))
def test_while_an_answer_grows_no_half_tag_is_shown(end: int) -> None:
    shown = chips(f"See {STAR[:end]}", is_partial=True)
    assert "<" not in shown and "box" not in shown
    assert shown in ("See ", "See [red star/0]") or "See red star".startswith(shown)


@given(st.text(alphabet="ab <>/refboxpoint0123 ,", max_size=60))
def test_whatever_comes_is_parsed_and_text_outside_tags_is_kept(answer: str) -> None:
    told = [part for part in parts(answer) if isinstance(part, str)]
    if "<" not in answer:
        assert "".join(told) == answer
    assert chips(answer, is_partial=True) is not None


def test_regions_are_drawn_where_they_are_each_in_its_colour() -> None:
    grey = Image.new("RGB", (400, 300), (128, 128, 128))
    marked = [Region("box", "a", ((0.25, 0.5), (0.5, 0.9))), Region("point", "b", ((0.9, 0.5),))]
    pixels = np.asarray(with_regions(grey, marked))
    first, second = (list(bytes.fromhex(colour[1:])) for colour in COLOURS[:2])
    left_line, dot = pixels[210, 96:104].tolist(), pixels[150, 359].tolist()
    assert first in left_line and [255, 255, 255] in left_line
    assert dot == second
    assert tuple(pixels[200, 150]) == (128, 128, 128)
    assert grey.getpixel((100, 210)) == (128, 128, 128)  # the picture itself is not drawn upon


@pytest.mark.parametrize("at", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.99, 0.5)])
def test_a_name_is_whole_wherever_its_region_is(at: tuple[float, float]) -> None:
    """At an edge its tag is moved to where it is inside the picture: as much of it is seen as in the middle."""

    def tag(place: tuple[float, float]) -> int:
        marked = np.asarray(with_regions(Image.new("RGB", (400, 300)), [Region("point", "a long name", (place,))]))
        bare = np.asarray(with_regions(Image.new("RGB", (400, 300)), [Region("point", " ", (place,))]))
        return int((marked != bare).any(axis=2).sum())

    assert tag(at) > 0.8 * tag((0.5, 0.5))


def test_a_name_that_is_wider_than_the_picture_begins_at_its_edge() -> None:
    def tag(name: str, x: float) -> list[object]:
        drawn = with_regions(Image.new("RGB", (40, 100)), [Region("point", name, ((x, 0.5),))])
        return list(np.asarray(drawn)[36:48, :12].tolist())

    assert tag(f"M{20 * 'i'}", 0.5) == tag("M", 0.0) != tag("i", 0.0)


def test_names_stay_inside_small_pictures() -> None:
    tiny = Image.new("RGB", (20, 12))
    assert with_regions(tiny, [Region("box", "a very long name", ((0.9, 0.0), (1.0, 1.0)))]).size == (20, 12)


def test_where_no_font_has_its_letters_a_region_is_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of boxes for missing letters."""
    black = Image.new("RGB", (300, 300))
    place = ((0.2, 0.5), (0.8, 0.9))
    monkeypatch.setattr("omnilmm.ui.drawing.FONTS", ())
    chinese, numbered = (np.asarray(with_regions(black, [Region("box", name, place)])) for name in ("红色圆形", "1"))
    assert (chinese == numbered).all()
