"""The evaluation: pictures of its own, answers held against the true ones, a line per ability."""

from __future__ import annotations

import base64
import io
import random
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from built_in import evaluation, gallery
from built_in.data import conversation_of
from built_in.evaluation import ROWS, Answered, details, examine, held_out, table_line
from built_in.labels import IGNORED
from built_in.lessons import Drawn, Lesson, random_lesson
from built_in.printing import is_held_out
from built_in.questions.turn import Turn
from omnilmm.conversation import Conversation, Picture
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts import chatml
from tests.built_in.small import small_model

ROW = {row.name: row for row in ROWS}
PICTURE = Drawn(Image.new("RGB", (30, 20), (10, 200, 30)), None)


def answered(row: str, question: str, true: str, said: str) -> Answered:
    turn = Turn(question, true, ROW[row].abilities[0])
    return Answered(ROW[row], Lesson((PICTURE,), (turn,), (1,)), 0, said)


COLOURS = [
    answered("colour", "What colour is the star?", "The star is red.", "The star is red."),
    answered("colour", "What colour is the heart?", "The heart is blue.", "The heart is red."),
    answered("colour", "What colour is the cross?", "The cross is blue.", "The cross is blue"),
    answered("colour", "星形是什么颜色？", "星形是红色的。", "星形是红色的。"),
]


def test_an_answer_counts_when_it_is_equal_to_the_letter() -> None:
    assert [item.is_right for item in COLOURS] == [True, False, False, True]
    assert [item.is_chinese for item in COLOURS] == [False, False, False, True]


def test_a_line_of_the_table_has_the_share_of_each_language() -> None:
    assert table_line(ROW["colour"], COLOURS) == "| colour | 4 | 0.500 | 0.333 | 1.000 |"
    assert table_line(ROW["colour"], COLOURS[:3]) == "| colour | 3 | 0.333 | 0.333 | – |"
    assert table_line(ROW["colour"], []) == "| colour | 0 | – | – | – |"


def test_descriptions_are_measured_by_the_things_they_name() -> None:
    told = details(
        [answered("description", "What is this?", "I see two red stars.", "I see a red star and a blue cross.")]
    )
    assert list(told.values()) == [pytest.approx(1 / 2), pytest.approx(1 / 2)]


def test_reading_is_measured_by_its_characters() -> None:
    items = [
        answered("reading", "What does it say?", 'It says "CAT".', 'It says "CUT".'),
        answered("reading", "写了什么？", "写的是“DOG42”。", "写的是“DOG42”。"),
        answered("reading", "What does it say?", 'It says "ABCDEFGHIJ".', 'It says "ABCDEFGHIX".'),
        answered("reading", "What does it say?", "I see no text.", 'It says "A".'),
    ]
    told = details(items)
    assert sorted(told.values()) == [pytest.approx(2 / 18), pytest.approx(1 / 2)]
    assert details(COLOURS) == {}


def test_every_row_is_asked_for_with_questions_that_count() -> None:
    assert len(ROW) == len(ROWS) > 15
    for row in ROWS:
        lessons = [held_out(row, number) for number in range(12)]
        counting = [turn for lesson in lessons for turn in lesson.turns if turn.ability in row.abilities]
        assert len(counting) >= 10, row


def test_a_lesson_of_the_evaluation_is_always_the_same_and_never_one_of_training() -> None:
    for row in (ROW["count"], ROW["chart"], ROW["small_print"]):
        one, same, next_one = held_out(row, 3), held_out(row, 3), held_out(row, 4)
        assert one.turns == same.turns != next_one.turns
        assert one.pictures[0].image.tobytes() == same.pictures[0].image.tobytes()
    trained = {random_lesson(random.Random(f"1/{n}"), "short").turns for n in range(20)}
    assert not trained & {held_out(ROW["count"], n).turns for n in range(20)}


@pytest.mark.parametrize("name", ["description", "reading", "place", "box", "chart", "pictures"])
def test_nothing_is_measured_twice(name: str) -> None:
    """One fact asked again and again would count as many questions."""
    for number in range(30):
        answers = [turn.answer for turn in held_out(ROW[name], number).turns]
        assert len(set(answers)) == len(answers)


def test_what_is_read_in_the_evaluation_is_never_printed_in_training() -> None:
    for name in ("reading", "lines", "small_print"):
        for number in range(12):
            (drawn,) = held_out(ROW[name], number).pictures
            assert drawn.scene is not None
            assert all(is_held_out(label.text) for label in drawn.scene.labels)


@pytest.fixture(scope="module")
def model(processor: MiniCPMVProcessor) -> MiniCPMV:
    untrained = small_model().eval()
    untrained.generation_config.pad_token_id = processor.stop_ids[-1]
    return untrained


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few lessons at once and few words an answer: an untrained model does not know when to stop."""
    monkeypatch.setattr(evaluation, "MAX_ANSWER_TOKENS", 6)
    monkeypatch.setattr(evaluation, "BATCH", 3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("only", "count"), [("colour", 8), ("again", 2), ("small_print", 2), ("small_print_without_slices", 2), ("chat", 5)]
)
def test_a_model_is_asked_as_many_questions_as_wished(
    model: MiniCPMV, processor: MiniCPMVProcessor, only: str, count: int
) -> None:
    ((row, items),) = examine(model, processor, questions=count, only=[only])
    assert row == ROW[only] and len(items) == count
    assert len({(item.lesson.turns, item.number) for item in items}) == count
    for item in items:
        assert item.turn.ability in row.abilities
        assert len(processor.tokenizer(item.answer)["input_ids"]) <= 40 and "<|im_end|>" not in item.answer


@pytest.mark.usefixtures("short")
def test_a_share_of_the_questions_has_later_turns_as_well(model: MiniCPMV, processor: MiniCPMVProcessor) -> None:
    """Whole conversations come one after the other: those of many side by side would begin with their first turns."""
    ((_, items),) = examine(model, processor, questions=5, only=["colour"])
    assert [item.number for item in items[:4]] == [0, 1, 2, 3]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("only", ["colour", "again", "small_print"])
def test_answers_of_a_batch_are_those_that_the_page_gives(
    model: MiniCPMV, processor: MiniCPMVProcessor, only: str
) -> None:
    """One conversation alone, by the product's own processor, with the model's own answers as history."""
    ((_, items),) = examine(model, processor, questions=6, only=[only])
    for item in items[:3]:
        conversation, pictures = Conversation(), iter(item.lesson.pictures)
        for number in range(item.number + 1):
            new = [Picture(next(pictures).image) for _ in range(item.lesson.given[number])]
            conversation = conversation.with_message("user", *new, item.lesson.turns[number].question)
            inputs = processor.inputs(conversation)
            with torch.inference_mode():
                output = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=processor.stop_ids)
            (said,) = output.tolist()
            answer = processor.tokenizer.decode([token for token in said if token not in processor.stop_ids])
            conversation = conversation.with_message("assistant", answer)
        assert item.answer == answer


def test_what_a_lesson_teaches_is_what_counts_as_right(processor: MiniCPMVProcessor) -> None:
    """The labels of training, decoded as the evaluation does, are right answers."""
    for name in ("colour", "box", "chat", "small_print"):
        lesson = held_out(ROW[name], 2)
        grids = [processor.plan(Picture(drawn.image)).grid for drawn in lesson.pictures]
        prompt = processor.encoder.encode(chatml.render(conversation_of(lesson), grids))
        labels = [label for label in prompt.labels if label != IGNORED]
        said = processor.tokenizer.decode(labels).split("<|im_end|>")[: len(lesson.turns)]
        items = [Answered(ROW[name], lesson, number, answer) for number, answer in enumerate(said)]
        assert items and all(item.is_right for item in items)
        assert not any(replace(item, answer=item.answer + ".").is_right for item in items)


def test_the_gallery_shows_wrong_answers_with_their_picture_and_no_markup_of_theirs() -> None:
    wrong = answered("reading", "What <b>is</b> it?", 'It says "A&B".', "<script>alert(1)</script><box>1 2 3 4</box>")
    page = gallery.page([*COLOURS, wrong])
    for text in (
        "The heart is blue.",
        "The heart is red.",
        "What colour is the heart?",
        "What &lt;b&gt;is&lt;/b&gt; it?",
    ):
        assert text in page, text
    assert "The star is red." not in page and "星形" not in page
    assert "<script>" not in page and "&lt;script&gt;" in page and "A&amp;B" in page
    assert "colour: 2 of 4 wrong" in page and "reading: 1 of 1 wrong" in page
    pictures = re.findall(r'<img src="data:image/png;base64,([A-Za-z0-9+/=]+)"', page)
    assert len(pictures) == 3
    assert "http" not in page  # needs nothing beside it


def test_the_picture_in_the_gallery_is_the_one_asked_about() -> None:
    page = gallery.page([COLOURS[1]])
    (encoded,) = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.size == (30, 20) and picture.getpixel((3, 3)) == (10, 200, 30)


def test_the_gallery_does_not_grow_without_end() -> None:
    assert gallery.page([COLOURS[1]] * 50).count("<figure>") == gallery.MOST_PER_ROW
    assert "<figure>" not in gallery.page([COLOURS[0]])


def test_asking_again_is_about_an_earlier_picture() -> None:
    """As one picture comes after the other, what counts names one that is not the newest."""
    for number in range(20):
        lesson = held_out(ROW["again"], number)
        for place, turn in enumerate(lesson.turns):
            if evaluation._counts(ROW["again"], lesson, place):
                assert re.search("first|second|第[一二]张", turn.question.lower()), turn
