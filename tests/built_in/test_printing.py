"""Printed texts are legible, and those of the evaluation are never seen in training."""

import random
import re

import pytest

from built_in.charts import random_chart, random_table
from built_in.lessons import MIXTURES, lesson_of, random_lesson
from built_in.printing import CHARACTERS, FONTS, MOST_CHARACTERS, is_held_out, printable_text, printed_at
from built_in.scenes import Scene, random_scene


def test_printed_text_is_legible_in_the_shrunk_picture(scenes: list[Scene]) -> None:
    """The overview is about 168 x 168 pixels, a letter in it at least 11 high."""
    for scene in scenes:
        for label in scene.labels:
            assert label.height * 168 / scene.unit >= 10.99
            # The real ink of every character is as high as promised (rounded parts and Q only make it higher).
            assert all(bottom - top > 0.9 * label.height - 1 for _, top, _, bottom in label.boxes)


def test_a_text_is_a_word_or_a_number_of_known_characters(scenes: list[Scene]) -> None:
    texts = [label.text for scene in scenes for label in scene.labels]
    for text in texts:
        assert 1 <= len(text) <= MOST_CHARACTERS and set(text) <= set(CHARACTERS)
        assert text.isdigit() or (text.isalpha() and len(text) > 1)
    assert {character for text in texts for character in text} == set(CHARACTERS)
    assert {len(text) for text in texts} == set(range(1, MOST_CHARACTERS + 1))


def test_boxes_of_a_label_go_from_left_to_right_without_overlap(scenes: list[Scene]) -> None:
    for scene in scenes:
        for label in scene.labels:
            assert len(label.boxes) == len(label.text)
            for one, other in zip(label.boxes, label.boxes[1:], strict=False):
                assert one[0] < other[0] and one[2] <= other[2]
            assert (label.x, label.y) == pytest.approx(
                ((label.box[0] + label.box[2]) / 2, (label.box[1] + label.box[3]) / 2)
            )


@pytest.mark.parametrize("font", FONTS)
def test_every_font_has_every_character(font: str) -> None:
    label = printed_at(CHARACTERS, font, 20.0, 7.0, 9.0, "black", (0, 0, 0))
    assert label.box[:2] == (7, 9)
    assert all(right - left >= 1 and bottom - top >= 18 for left, top, right, bottom in label.boxes)


def test_held_out_texts_are_never_in_training_and_always_in_evaluation(scenes: list[Scene]) -> None:
    assert not any(is_held_out(label.text) for scene in scenes for label in scene.labels)
    rng = random.Random(4)
    printed = [label.text for _ in range(200) for label in random_scene(rng, held_out=True).labels]
    assert len(printed) > 60
    assert all(is_held_out(text) for text in printed)
    assert any(text.isdigit() for text in printed) and any(text.isalpha() for text in printed)
    assert not any(is_held_out(digit) for digit in "0123456789")


def test_about_a_tenth_of_texts_is_held_out() -> None:
    rng = random.Random(5)
    texts = {printable_text(rng) for _ in range(2000)} | {printable_text(rng, held_out=True) for _ in range(2000)}
    random_letters = ["".join(rng.choices(CHARACTERS[:26], k=5)) for _ in range(4000)]
    assert 0.08 < sum(map(is_held_out, random_letters)) / 4000 < 0.12
    assert all(set(text) <= set(CHARACTERS) for text in texts)


def quoted_in(number: int) -> list[str]:
    """All that a training lesson prints or says."""
    lesson = random_lesson(random.Random(number), list(MIXTURES)[number % 3])
    printed = [label.text for drawn in lesson.pictures if drawn.scene for label in drawn.scene.labels]
    return printed + [
        text for turn in lesson.turns for text in re.findall('["“]([A-Z0-9]+)["”]', turn.question + turn.answer)
    ]


def test_no_free_text_of_a_training_lesson_is_held_out() -> None:
    texts = {text for number in range(250) for text in quoted_in(number)}
    assert len(texts) > 250
    assert not [text for text in texts if is_held_out(text)]


def test_nothing_in_a_chart_or_table_of_training_is_held_out() -> None:
    rng = random.Random(8)
    scenes = [random_chart(rng).scene for _ in range(150)] + [random_table(rng).scene for _ in range(150)]
    assert not [label.text for scene in scenes for label in scene.labels if is_held_out(label.text)]


@pytest.mark.parametrize("kind", ["scene", "page", "pictures", "series"])
def test_a_lesson_of_the_evaluation_prints_only_what_training_never_prints(kind: str) -> None:
    assert any(kind in mixture for mixture in MIXTURES.values())
    texts = []
    for number in range(80):
        lesson = lesson_of(kind, random.Random(number))
        texts += [label.text for drawn in lesson.pictures if drawn.scene for label in drawn.scene.labels]
    assert len(texts) > 15 and all(map(is_held_out, texts))
