"""Every metric against tables of the published code's results, or against a second way to compute it; see golden/."""

from __future__ import annotations

import json
import math
import random
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from omnilmm.errors import InputError
from omnilmm.evaluation.metrics import METRICS, metric_of
from omnilmm.evaluation.metrics.base import Asked, Mark, Ratio, Sum, listed
from omnilmm.evaluation.metrics.boxes import is_right, overlap
from omnilmm.evaluation.metrics.chair import Objects
from omnilmm.evaluation.metrics.choices import circle_of, letter_of
from omnilmm.evaluation.metrics.distance import character_error_rate
from omnilmm.evaluation.metrics.yes_no import COGNITION, PERCEPTION, verdict_in

GOLDEN = Path(__file__).parent / "golden"
CATEGORIES = [*PERCEPTION, *COGNITION]  # as numbered in golden/mme.json


def golden(name: str) -> list[Any]:
    cases: list[Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert len(cases) >= 400
    return cases


def value(measured: Ratio | Sum) -> float:
    if isinstance(measured, Sum):
        return sum(map(value, measured.parts))
    return measured.scale * sum(measured.gained) / sum(measured.out_of)


@pytest.mark.parametrize("name", ["vqa", "anls", "relaxed", "exact"])
def test_an_answer_is_marked_as_by_the_published_code(name: str) -> None:
    for answers, answer, mark in golden(name):
        given = METRICS[name].mark(Asked("1", tuple(answers)), answer).credit
        assert given == pytest.approx(mark, abs=1e-9), (answers, answer)


def test_containment_is_that_of_ocrbench() -> None:
    for answers, category, answer, mark in golden("contains"):
        assert METRICS["contains"].mark(Asked("1", tuple(answers), category=category), answer).credit == mark, answer


def test_yes_and_no_are_read_as_by_the_published_code() -> None:
    for answer, read in golden("yes_no"):
        assert verdict_in(answer) == read, answer


def test_the_letter_of_an_option_is_read_as_by_the_published_code() -> None:
    for options, answer, letter in golden("choice"):
        assert letter_of(answer, options) == letter, (options, answer)
        mark = METRICS["choice"].mark(Asked("1", ("B",), options), answer)
        assert mark.credit == (letter == "B")


def test_a_circular_question_is_right_if_all_its_rotations_are() -> None:
    marked = []
    right = 0
    for number, (rows, hit) in enumerate(golden("circular")):
        group = []
        for options, letter, answer in rows:
            asked = Asked(f"{number}-{len(group)}", (letter,), options, group=str(number))
            group.append((asked, METRICS["choice"].mark(asked, answer)))
        circular, _ = METRICS["choice-circular"].measure(group)
        assert value(circular) == 100 * hit
        marked += group
        right += hit
    circular, plain = METRICS["choice-circular"].measure(marked)
    assert value(circular) == pytest.approx(100 * right / len(golden("circular")))
    assert value(circular) < value(plain)


def test_the_halves_of_mme_are_those_of_the_published_code() -> None:
    for rows, (perception, cognition) in golden("mme"):
        marked = []
        for row in rows:
            category, picture, credit = map(int, row.split())
            marked.append((Asked("1", group=f"{category}/{picture}", category=CATEGORIES[category]), Mark(credit)))
        total, *halves, _, _ = METRICS["mme"].measure(marked)
        assert [value(half) for half in halves] == [pytest.approx(perception), pytest.approx(cognition)]
        assert value(total) == pytest.approx(perception + cognition)


def test_a_box_overlaps_as_much_as_its_cells_do() -> None:
    chance = random.Random(5)

    def box() -> tuple[int, ...]:
        left, top = chance.randrange(20), chance.randrange(20)
        return left, top, left + chance.randint(1, 12), top + chance.randint(1, 12)

    def cells(corners: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(corners[0], corners[2]) for y in range(corners[1], corners[3])}

    overlapping = 0
    for _ in range(400):
        one, other = box(), box()
        share = len(cells(one) & cells(other)) / len(cells(one) | cells(other))
        assert overlap(one, other) == overlap(other, one) == pytest.approx(share)
        overlapping += share > 0
        written = [f"<ref>a</ref><box>{' '.join(map(str, corners))}</box>" for corners in (one, other)]
        assert METRICS["box"].mark(Asked("1", (written[0],)), written[1]).credit == (share >= 0.5)
        assert is_right(*written) == (share >= 0.5)
    assert overlapping > 50
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_several_boxes_are_matched_whatever_their_order() -> None:
    boxes = [f"<box>{left} 0 {left + 200} 200</box>" for left in (0, 300, 600)]
    for order in permutations(boxes):
        assert is_right("".join(boxes), "".join(order))
    assert not is_right("".join(boxes), boxes[0] * 3)
    assert not is_right("".join(boxes), "".join(boxes[:2]))
    assert METRICS["literal"].mark(Asked("1", ("A b.", "C.")), "C.").credit == 1
    assert METRICS["literal"].mark(Asked("1", ("A b.",)), "A b").credit == 0
    assert METRICS["box"].mark(Asked("1", ("no box",)), "<box>0 0 1 1</box>").credit == 0
    assert METRICS["box"].mark(Asked("1", (boxes[0],)), "nowhere").credit == 0


WORDS = {"hot dog": "hot dog", "dog": "dog", "puppy": "dog", "bus": "bus", "baby bird": "bird", "bird": "bird"} | {
    "baby": "person",
    "person": "person",
    "knife": "knife",
}
FORMS = {"hot dogs": "hot dog", "dogs": "dog", "puppies": "dog", "buses": "bus", "birds": "bird", "babies": "person"}


def test_chair_counts_the_objects_that_are_not_there() -> None:
    """Descriptions put together from words whose objects are known beforehand."""
    chance, objects = random.Random(7), Objects(WORDS)
    known, marked, wrong, all_named, hallucinating = WORDS | FORMS, [], 0, 0, 0
    metric = metric_of("chair", objects)
    for number in range(400):
        words = [chance.choice(list(known)) for _ in range(chance.randint(0, 4))]
        there = {name for name in dict.fromkeys(known.values()) if chance.random() < 0.7}
        filler = ["a", "The", "seen,", "beside", "buss", "birdie", "and"]
        text = " ".join(part for word in words for part in (chance.choice(filler), word.title(), "is")) + "."
        named = [known[word] for word in words]
        assert objects.named_in(text) == named, text
        asked = Asked(str(number), objects=tuple(there))
        mark = metric.mark(asked, text)
        missing = [name for name in named if name not in there]
        assert (mark.sum, mark.out_of, mark.credit) == (len(missing), len(named), not missing)
        marked.append((asked, mark))
        wrong, all_named, hallucinating = wrong + len(missing), all_named + len(named), hallucinating + bool(missing)
    of_objects, of_descriptions = metric.measure(marked)
    assert value(of_objects) == pytest.approx(100 * wrong / all_named)
    assert value(of_descriptions) == pytest.approx(100 * hallucinating / 400)
    assert metric.lower_is_better and hallucinating > 50


def test_a_word_list_is_a_file_of_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffdog, puppy,  hound\n\nHot Dog\n", encoding="utf-8")
    objects = Objects.read(path)
    assert objects.named_in("Two hounds eat a hot dog; a hot summer, a dog's life.") == ["dog", "hot dog"]
    assert objects.mark(Asked("1", objects=("puppies",)), "A dog.").credit == 1
    path.write_text(" , \n")
    with pytest.raises(InputError, match="names no objects"):
        Objects.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        Objects.read(tmp_path / "none.txt")


def test_few_annotators_need_not_be_three_who_agree() -> None:
    mark = METRICS["vqa"].mark
    assert mark(Asked("1", ("two dogs",)), "The 2 dogs!").credit == 1
    assert mark(Asked("1", ("two dogs", "x", "y")), "2 dogs").credit == 1
    assert mark(Asked("1", ("a b",) * 2 + ("c",) * 8), "b").credit == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)


def test_edits_per_true_character() -> None:
    assert character_error_rate([("KITTEN", "SITTING"), ("MOON", "MON")]) == pytest.approx(4 / 10)
    assert character_error_rate([("CAT", "")]) == 1 and character_error_rate([]) == 0


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("['a', \"b's\"]", ("a", "b's")),
        ('["a", "\u4e2d"]', ("a", "\u4e2d")),
        ("[1, 2.5]", ("[1, 2.5]",)),
        ('["a", 1]', ('["a", 1]',)),
        (["a", 1], ("a", "1")),
        ("[not a list", ("[not a list",)),
        ("[]", ("[]",)),
        ("text", ("text",)),
        ("[__import__('os').abort()]", ("[__import__('os').abort()]",)),
        ("[" * 5000, ("[" * 5000,)),
        (7, ("7",)),
    ],
)
def test_a_list_in_a_cell_is_read_and_nothing_in_it_executed(cell: Any, answers: tuple[str, ...]) -> None:
    assert listed(cell) == answers


def test_every_metric_marks_nothing_as_wrong() -> None:
    for name, metric in METRICS.items():
        assert metric.mark(Asked("1", ("x1",), {"A": "x", "B": "y"}), "").credit == 0, name
        assert re.fullmatch("[a-z-]+", name)


def test_rotations_belong_to_the_first_one() -> None:
    assert [circle_of(index) for index in ("241", "3000241", "a7")] == ["241", "241", "a7"]
    assert not math.isnan(value(METRICS["exact"].measure([(Asked("1", ("a",)), Mark(1.0))])[0]))
