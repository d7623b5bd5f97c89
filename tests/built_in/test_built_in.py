"""The shipped weights still do what their card says: a slice of the evaluation, held against the card's own table."""

from __future__ import annotations

import re

import pytest

from built_in import evaluation
from built_in.evaluation import ROWS, Answered, Row, examine
from omnilmm.catalog import ROOT
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine

FOLDER = ROOT / "assets" / "built-in"
# Of a row whose floor is 0.95, 18 of 20 must be right: an ability that fell to 0.71 fails with a probability of 95 %,
# of a row with 0.5 one that fell to 0.25. Twice as many questions would notice 0.78 and 0.31.
QUESTIONS = 20
# Lessons of "again" are long. The floors are those of 40 questions; of two rows the first 20 are harder than that.
OTHERWISE = {"again": 12, "box": 40, "follow_up": 40}
SLACK = 0.05
TOGETHER = range(4)  # lessons of different lengths in one batch
SOME = [row for row in ROWS if row.name in ("colour", "lines", "pictures")]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
some_rows = pytest.mark.parametrize("row", SOME, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return load_engine(dtype="fp32")


@pytest.fixture(scope="module")
def card() -> dict[str, float]:
    """Floor of each ability."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return {name: float(floor) for name, floor in re.findall(r"^\| (\w+) \|.*\| ([\d.]+) \|$", text, re.MULTILINE)}


def answered(engine: LocalEngine, row: Row, questions: int) -> list[Answered]:
    ((_, items),) = examine(engine.model, engine.processor, questions=questions, only=[row.name])
    return items


@every_row
def test_the_card_tells_the_truth(engine: LocalEngine, card: dict[str, float], row: Row) -> None:
    items = answered(engine, row, OTHERWISE.get(row.name, QUESTIONS))
    share = sum(item.is_right for item in items) / len(items)
    assert share >= card[row.name] - SLACK


def said_to(engine: LocalEngine, row: Row, *numbers: int) -> dict[tuple[int, int], str]:
    """The answers to some lessons of a row, all asked side by side: by lesson and turn."""
    lessons = [evaluation.held_out(row, number) for number in numbers]
    items = evaluation.ask(engine.model, engine.processor, row, lessons)
    return {(numbers[lessons.index(item.lesson)], item.number): item.answer for item in items}


@some_rows
def test_one_by_one_and_with_either_attention_the_answers_are_the_same(engine: LocalEngine, row: Row) -> None:
    together = said_to(engine, row, *TOGETHER)
    alone = [said_to(engine, row, number) for number in TOGETHER]
    assert {place: answer for one in alone for place, answer in one.items()} == together
    before = engine.model.config._attn_implementation
    assert before == "sdpa"
    engine.model.set_attn_implementation("eager")
    try:
        eager = said_to(engine, row, *TOGETHER)
    finally:
        engine.model.set_attn_implementation(before)
    assert eager == together
