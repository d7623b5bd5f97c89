"""Questions about several pictures: what is compared is true, and each picture is meant by its number."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from built_in.facts import Facts
from built_in.language import CODES, language
from built_in.lessons import ASKERS, Lesson, lesson_of
from built_in.questions.pictures import ask_compared, ask_how_many, ask_in_one, ask_which
from built_in.questions.turn import Turn
from built_in.scenes import Scene, random_scene
from tests.built_in.truth import KINDS, ORDINALS, any_of, is_chinese, is_true, names_in, things_of

Shown = tuple[list[Scene], Turn]
NTH = rf"(?i:({any_of(ORDINALS)}) (?:picture|image|photo|drawing)|第({any_of(ORDINALS.values())})张)"
SAME = ("They have the same number.", "它们一样多。")
NONE = ("None of the pictures.", "都没有。")


def number_in(text: str) -> int | None:
    """Which picture is spoken of, counted from 0."""
    match = re.search(NTH, text)
    if match is None:
        return None
    return list(ORDINALS).index(match[1].lower()) if match[1] else list(ORDINALS.values()).index(match[2])


@pytest.fixture(scope="module")
def asked() -> list[Shown]:
    """All sorts of questions about two or three pictures with few shapes."""
    rng, shown = random.Random(41), []
    for _ in range(1200):
        scenes = [random_scene(rng) for _ in range(rng.choice((2, 3)))]
        facts, speak = [Facts(scene) for scene in scenes], language(rng.choice(CODES))
        turns = (ask_compared(facts, rng, speak), ask_which(facts, rng, speak))
        shown += [(scenes, turn) for turn in turns if turn is not None]
    return shown


def is_compared(turn: Turn) -> bool:
    return bool(re.search(r"\b(?:more|most)\b|更多|最多", turn.question.lower()))


def test_the_picture_with_more_is_the_one_that_has_more(asked: list[Shown]) -> None:
    answers: Counter[object] = Counter()
    for scenes, turn in asked:
        if is_compared(turn):
            (name,) = names_in(turn.question)
            counts = [len(things_of(scene, name)) for scene in scenes]
            ranked = sorted(counts)
            if turn.answer in SAME:
                assert ranked[0] == ranked[-1] > 0, turn
            else:
                number = number_in(turn.answer)
                assert number is not None and counts[number] == ranked[-1] > ranked[-2], turn
            assert bool(re.search("most|最多", turn.question.lower())) == (len(scenes) == 3)
            answers[number_in(turn.answer)] += 1
    assert set(answers) == {0, 1, 2, None} and min(answers.values()) > 8


def test_the_picture_that_shows_something_is_the_only_one_that_does(asked: list[Shown]) -> None:
    answers: Counter[object] = Counter()
    for scenes, turn in asked:
        if is_compared(turn):
            continue
        names = [name for name in names_in(turn.question) if name.kind in KINDS.values()]
        if names:
            there = [number for number, scene in enumerate(scenes) if things_of(scene, names[0])]
        else:
            assert re.search("text|writ|文字|字", turn.question.lower())
            there = [number for number, scene in enumerate(scenes) if scene.labels]
        assert turn.answer in NONE if not there else [number_in(turn.answer)] == there, turn
        answers[bool(names), number_in(turn.answer)] += 1
    assert len(answers) == 8 and min(answers.values()) > 5


def test_a_question_about_one_picture_is_answered_from_that_one() -> None:
    rng, seen = random.Random(42), 0
    askers = [asker for name, asker in ASKERS.items() if name != "absent"]
    for _ in range(300):
        scenes = [random_scene(rng) for _ in range(3)]
        number = rng.randrange(3)
        speak = language(rng.choice(CODES))
        turn = ask_in_one([Facts(scene) for scene in scenes], rng, speak, number, rng.choice(askers))
        if turn is not None and not re.search("largest|smallest|biggest|最", turn.question):
            assert number_in(turn.question) == turn.picture == number
            assert is_true(scenes[number], turn.answer), turn
            assert turn.ability == "pictures"
            seen += 1
    assert seen > 150


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pictures_are_counted(code: str, count: int) -> None:
    turn = ask_how_many(count, random.Random(1), language(code))  # type: ignore[arg-type]
    assert re.findall(r"\d+", turn.answer) == [str(count)]
    assert code == "zh" or (" is 1 picture." in turn.answer) == (count == 1)


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    return [lesson_of("pictures", random.Random(number)) for number in range(60)]


def test_pictures_come_together_or_one_after_the_other(lessons: list[Lesson]) -> None:
    ways = Counter()
    for lesson in lessons:
        count = len(lesson.pictures)
        assert count in (2, 3) and len(lesson.given) == len(lesson.turns) and sum(lesson.given) == count
        assert lesson.given[0] >= 1
        ways[lesson.given[0] == count] += 1
        assert lesson.given[0] == count or lesson.given[:count] == (1,) * count
    assert min(ways.values()) > 10


@pytest.mark.parametrize(("only", "first"), [("together", {2, 3}), ("in turn", {1})])
def test_the_way_pictures_are_given_can_be_chosen(only: str, first: set[int]) -> None:
    assert {lesson_of("pictures", random.Random(n), only=only).given[0] for n in range(12)} == first


def test_a_turn_speaks_only_of_pictures_that_are_there_already(lessons: list[Lesson]) -> None:
    spoken = 0
    for lesson in lessons:
        for place, turn in enumerate(lesson.turns):
            shown = sum(lesson.given[: place + 1])
            number = number_in(turn.question)
            assert number is None or (number < shown and turn.picture == number and shown > 1)
            counted = re.fullmatch(r"(?:There (?:is|are) |有)(\d)(?: pictures?\.|张图片。)", turn.answer)
            assert counted is None or int(counted[1]) == shown
            spoken += number is not None
    assert spoken > 60


def test_what_is_compared_in_a_lesson_is_true_of_what_was_shown(lessons: list[Lesson]) -> None:
    for lesson in lessons:
        scenes = [drawn.scene for drawn in lesson.pictures if drawn.scene is not None]
        for place, turn in enumerate(lesson.turns):
            if is_compared(turn):
                (name,) = names_in(turn.question)
                counts = [len(things_of(scene, name)) for scene in scenes[: sum(lesson.given[: place + 1])]]
                number = number_in(turn.answer)
                assert is_chinese(turn.question) == is_chinese(turn.answer)
                assert counts.count(max(counts)) == (1 if number is not None else len(counts))
                assert number is None or counts[number] == max(counts)


def test_in_a_series_each_question_is_about_the_newest_picture() -> None:
    counts, asked = Counter[int](), 0
    for number in range(60):
        lesson = lesson_of("series", random.Random(number))
        counts[len(lesson.pictures)] += 1
        for place, turn in enumerate(lesson.turns):
            newest = lesson.pictures[sum(lesson.given[: place + 1]) - 1].scene
            assert number_in(turn.question) is None and newest is not None
            if turn.ability in ASKERS and turn.ability != "absent":
                assert is_true(newest, turn.answer), turn
                asked += 1
    assert set(counts) == {2, 3} and asked > 80
