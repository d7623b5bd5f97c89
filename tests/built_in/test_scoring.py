"""When an answer counts: equal to the letter, boxes by their overlap, characters and named things by their share."""

import pytest

from built_in.scoring import precision_and_recall, printed_in, things_named
from omnilmm.evaluation.metrics.boxes import is_right, overlap
from omnilmm.evaluation.metrics.distance import character_error_rate

STAR = "<ref>star</ref>"


@pytest.mark.parametrize(
    ("true", "said", "right"),
    [
        ("The star is red.", "The star is red.", True),
        ("The star is red.", "The star is red", False),
        ("The star is red.", "The star is blue.", False),
        ("红色的星形在上方。", "红色的星形在上方。", True),
        ("The star is red.", "", False),
        (f"{STAR}<box>100 100 300 300</box>", f"{STAR}<box>100 100 300 300</box>", True),
        (f"{STAR}<box>100 100 300 300</box>", f"{STAR}<box>100 140 300 340</box>", True),
        (f"{STAR}<box>100 100 300 300</box>", f"{STAR}<box>100 200 300 400</box>", False),
        (f"{STAR}<box>100 100 300 300</box>", "<ref>cross</ref><box>100 100 300 300</box>", False),
        (f"{STAR}<box>100 100 300 300</box>", "I see no star.", False),
        (f"{STAR}<box>100 100 300 300</box>", f"{STAR}<box>100 100 300</box>", False),
        ("I see no star.", f"{STAR}<box>100 100 300 300</box>", False),
    ],
)
def test_an_answer_is_right_to_the_letter_and_a_box_by_its_overlap(true: str, said: str, right: bool) -> None:
    assert is_right(true, said) == right


def test_several_boxes_may_come_in_any_order_but_each_only_once() -> None:
    one, other = "<box>0 0 200 200</box>", "<box>500 500 700 700</box>"
    assert is_right(STAR + one + other, STAR + other + one)
    assert not is_right(STAR + one + other, STAR + one + one)
    assert not is_right(STAR + one + other, STAR + one)
    assert not is_right(STAR + one, STAR + one + other)
    near = "<box>0 40 200 240</box>"  # overlaps the first one by two thirds
    assert is_right(STAR + one + near, STAR + one + near)
    assert not is_right(STAR + one + near, STAR + one + other)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150),
        ((0, 0, 10, 10), (2, 2, 4, 4), 4 / 100),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (30, 30, 40, 40), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(one: tuple[int, ...], other: tuple[int, ...], share: float) -> None:
    assert overlap(one, other) == overlap(other, one) == pytest.approx(share)


@pytest.mark.parametrize(
    ("description", "things"),
    [
        ("I see an orange circle.", {"orange circle": 1}),
        ("I see two red crosses, a blue star and nine pink hearts.", {"red cross": 2, "blue star": 1, "pink heart": 9}),
        ('I see three white squares and the word "CAT".', {"white square": 3, 'word "CAT"': 1}),
        ("I see nothing but the background.", {}),
        ("我只看到背景。", {}),
        ("我看到2个红色的十字形、1个蓝色的星形和单词“CAT”。", {"红色的十字形": 2, "蓝色的星形": 1, "单词“CAT”": 1}),
    ],
)
def test_a_description_names_its_things_as_often_as_it_says(description: str, things: dict[str, int]) -> None:
    assert things_named(description) == things


def test_precision_and_recall_count_things() -> None:
    pairs = [
        ("I see two red stars and a blue cross.", "I see two red stars and a green cross."),
        ("I see a red heart.", "I see two red hearts."),
    ]
    # Named: 3 + 2, of which 2 + 1 are there; there: 3 + 1, of which 2 + 1 are named.
    assert precision_and_recall(pairs) == (pytest.approx(3 / 5), pytest.approx(3 / 4))
    assert precision_and_recall([("I see a red star.", "I see a red star.")]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('It says "CAT".', "CAT"),
        ("写的是“B52”。", "B52"),
        ("I see no text.", ""),
        ('It says "ONE" and "TWO".', "ONE TWO"),
        ('The second line says "7".', "7"),
    ],
)
def test_the_printed_text_is_what_is_quoted(answer: str, text: str) -> None:
    assert printed_in(answer) == text


@pytest.mark.parametrize(
    ("pairs", "rate"),
    [
        ([("CAT", "CAT")], 0.0),
        ([("CAT", "CUT")], 1 / 3),
        ([("CAT", "CAAT")], 1 / 3),
        ([("CAT", "AT")], 1 / 3),
        ([("CAT", "")], 1.0),
        ([("KITTEN", "SITTING")], 3 / 6),
        ([("CAT", "CAT"), ("MOON", "MON")], 1 / 7),
        ([("AB", "BA")], 1.0),
    ],
)
def test_character_errors_are_insertions_deletions_and_replacements(pairs: list[tuple[str, str]], rate: float) -> None:
    assert character_error_rate(pairs) == pytest.approx(rate)
