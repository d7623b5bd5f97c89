"""Lessons of every kind, as training mixes them: reproducible, complete, and true where there is nothing to see."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest

from built_in.lessons import MIXTURES, SHARES, Lesson, Sort, corpus, lesson_of, random_lesson, random_sort
from built_in.photos import random_photo
from built_in.scenes import random_size
from omnilmm.images.slicing import SlicingRules, plan_slices
from tests.built_in.truth import is_chinese, is_true, printed

RULES = SlicingRules(max_slices=9, scale_resolution=168, patch_size=12)
KINDS = sorted({kind for mixture in MIXTURES.values() for kind in mixture})
SORTS = list(MIXTURES)


@pytest.fixture(scope="module")
def lessons() -> dict[str, list[Lesson]]:
    return {kind: [lesson_of(kind, random.Random(number)) for number in range(25)] for kind in KINDS}


def everything_of(lesson: Lesson) -> tuple[object, ...]:
    return [drawn.image.tobytes() for drawn in lesson.pictures], lesson.turns, lesson.given


def test_a_lesson_depends_on_its_random_numbers_alone() -> None:
    for sort in SORTS:
        one = [everything_of(random_lesson(random.Random(n), sort)) for n in range(8)]
        other = [everything_of(random_lesson(random.Random(n), sort)) for n in reversed(range(8))]
        assert one == other[::-1]
        assert len({repr(lesson[1]) for lesson in one}) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_is_given_and_every_turn_has_words(lessons: dict[str, list[Lesson]], kind: str) -> None:
    for lesson in lessons[kind]:
        assert len(lesson.given) == len(lesson.turns) > 0
        assert sum(lesson.given) == len(lesson.pictures)
        assert all(turn.question.strip() and turn.answer.strip() for turn in lesson.turns)
        assert all("{" not in turn.question + turn.answer for turn in lesson.turns)
        assert all(drawn.scene is None or drawn.scene.size == drawn.image.size for drawn in lesson.pictures)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taught_in_both_languages(lessons: dict[str, list[Lesson]], kind: str) -> None:
    assert {is_chinese(turn.question) for lesson in lessons[kind] for turn in lesson.turns} == {True, False}


def test_training_mixes_every_kind_it_promises() -> None:
    """Told apart by what only one kind can have."""
    for sort, mixture in MIXTURES.items():
        kinds = Counter()
        for number in range(160):
            lesson = random_lesson(random.Random(number), sort)
            abilities = {turn.ability for turn in lesson.turns}
            if not lesson.pictures:
                kinds["talk"] += 1
            elif len(lesson.pictures) > 1:
                kinds["pictures" if "pictures" in abilities else "series"] += 1
            elif lesson.pictures[0].scene is None:
                kinds["photo"] += 1
            else:
                kinds[next((name for name in ("chart", "table") if name in abilities), "scene")] += 1
                kinds["page"] += "small print" in abilities
        assert {kind for kind, count in kinds.items() if count} == set(mixture)


@pytest.mark.parametrize("sort", SORTS)
def test_pictures_are_cut_exactly_where_the_lesson_says_so(sort: Sort) -> None:
    seen = 0
    for number in range(120):
        for drawn in random_lesson(random.Random(number), sort).pictures:
            assert (plan_slices(drawn.image.size, RULES).grid is not None) == (sort == "sliced")
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("small", [1.0, 0.0])
def test_pictures_at_the_border_are_cut_as_the_lesson_says_too(small: float) -> None:
    rng = random.Random(1)
    assert all((plan_slices(random_size(rng, small), RULES).grid is None) == bool(small) for _ in range(20_000))


def test_what_is_said_of_scenes_and_pages_is_true(lessons: dict[str, list[Lesson]]) -> None:
    for lesson in lessons["scene"] + lessons["page"]:
        (drawn,) = lesson.pictures
        for turn in lesson.turns:
            if turn.ability not in ("chat", "follow_up"):
                assert drawn.scene is not None and is_true(drawn.scene, turn.answer), turn


def test_a_page_is_mostly_about_its_small_print(lessons: dict[str, list[Lesson]]) -> None:
    turns = [turn for lesson in lessons["page"] for turn in lesson.turns]
    small = [turn for turn in turns if turn.ability == "small print"]
    assert len(small) > 0.6 * len(turns)
    assert all(printed(turn.answer) for turn in small)


def test_about_a_photo_everything_is_answered_the_same(lessons: dict[str, list[Lesson]]) -> None:
    answers = {(is_chinese(turn.question), turn.answer) for lesson in lessons["photo"] for turn in lesson.turns}
    assert len(answers) == 2 and all(is_chinese(answer) == chinese for chinese, answer in answers)
    assert len({turn.question for lesson in lessons["photo"] for turn in lesson.turns}) > 25


def test_without_a_picture_nothing_is_said_of_one(lessons: dict[str, list[Lesson]]) -> None:
    """A question about a picture is answered by asking for one."""
    asks = 0
    for lesson in lessons["talk"]:
        for turn in lesson.turns:
            assert turn.ability == "chat" and not printed(turn.answer) and "<box>" not in turn.answer
            asks += turn.answer in ("Please give me a picture first.", "请先给我一张图片。")
    assert asks > 10


@pytest.mark.parametrize("size", [(64, 200), (300, 90), (168, 168)])
def test_photos_have_their_size_and_many_colours_and_no_two_are_alike(size: tuple[int, int]) -> None:
    photos = [random_photo(random.Random(number), size) for number in range(25)]
    assert all(photo.size == size and photo.mode == "RGB" for photo in photos)
    assert len({photo.tobytes() for photo in photos}) == 25
    assert random_photo(random.Random(3), size).tobytes() == photos[3].tobytes()
    colours = [len(np.unique(np.asarray(photo).reshape(-1, 3), axis=0)) for photo in photos]
    assert min(colours) > 100


def test_the_corpus_leaves_out_what_is_printed_and_keeps_the_rest() -> None:
    texts = list(corpus(random.Random(6), 60))
    assert texts == list(corpus(random.Random(6), 60))
    assert not any(re.search('["“][A-Z0-9]|[A-Z0-9]["”]', text) for text in texts)
    said = " ".join(texts)
    assert 'It says "' in said and "写的是“" in said and "colour" in said and "颜色" in said


def test_each_sort_comes_as_often_as_it_should() -> None:
    rng = random.Random(6)
    counts = Counter(random_sort(rng) for _ in range(4000))
    assert set(SHARES) == set(MIXTURES) and sum(SHARES.values()) == pytest.approx(1)
    assert all(abs(counts[sort] / 4000 - share) < 0.03 for sort, share in SHARES.items())
