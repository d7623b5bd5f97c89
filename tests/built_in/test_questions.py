"""Every answer is true: an independent reading of the scene comes to the same, and questions leave no choice."""

import itertools
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from built_in.facts import Facts
from built_in.language import language
from built_in.lessons import ASKERS, conversation
from built_in.questions.turn import Turn
from built_in.scenes import Scene, Shape, Thing, random_scene
from tests.built_in.ink import WHITE, box_of_ink
from tests.built_in.truth import (
    COLOURS,
    KINDS,
    ORDINALS,
    PLACES,
    SIDES,
    Named,
    Talk,
    any_of,
    boxes_in,
    claim,
    colours_in,
    is_beside,
    is_chinese,
    is_true,
    named,
    names_in,
    place_said,
    printed,
    side_of,
    talk_about,
    things_of,
)

IT = r"\bits?\b|它|^(?:颜色|形状|大小)呢|^写的是|读"  # what only a follow-up says
ABILITIES = {*ASKERS, "follow_up", "chat"}
ZH_KINDS = {english: chinese for chinese, english in KINDS.items()}


def turns_of(talks: list[Talk], *abilities: str) -> list[tuple[Scene, Turn]]:
    return [(scene, turn) for scene, turns in talks for turn in turns if turn.ability in abilities]


def things_named_in(scene: Scene, answer: str) -> list[Thing]:
    """What the name in an answer may mean."""
    name = re.search(r"<ref>(.+)</ref>", answer)
    names = [named(name[1])] if name else names_in(answer)
    return things_of(scene, names[0]) if names else []


def is_of_a_shared_name(scene: Scene, turn: Turn) -> bool:
    """A follow-up about the largest thing, or one beside another, whose kind and colour another one has, too."""
    return (
        turn.ability == "follow_up"
        and claim(turn.answer) != "count"
        and (turn.subject is not None and len(things_named_in(scene, turn.answer)) > 1)
    )


def test_every_answer_is_true(talks: list[Talk]) -> None:
    for scene, turns in talks:
        for turn in turns:
            if turn.ability != "chat" and not is_of_a_shared_name(scene, turn):
                assert is_true(scene, turn.answer), (turn, scene)


def test_a_follow_up_names_one_thing_alone(talks: list[Talk]) -> None:
    assert not any(is_of_a_shared_name(scene, turn) for scene, turns in talks for turn in turns)


def test_the_checker_itself_notices_lies(talks: list[Talk]) -> None:
    """Answers about one picture are seldom true of the next."""
    told: Counter[str] = Counter()
    lies: Counter[str] = Counter()
    for (_, turns), (other, _) in itertools.pairwise(talks):
        for turn in turns:
            if sort := claim(turn.answer):
                told[sort] += 1
                lies[sort] += not is_true(other, turn.answer)
    for sort in set(told) - {"text", "missing"}:
        assert lies[sort] > 0.5 * told[sort], sort
    for sort in ("description", "reading", "box", "beside", "colour beside", "what beside", "at place"):
        assert lies[sort] > 0.9 * told[sort], sort


def test_question_and_answer_are_of_one_language(talks: list[Talk]) -> None:
    codes = Counter()
    for _, turns in talks:
        for turn in turns:
            assert is_chinese(turn.question) == is_chinese(turn.answer) or "<box>" in turn.answer, turn
            assert "<box>" not in turn.answer or is_chinese(turn.answer) == is_chinese(turn.question)
            codes[is_chinese(turn.question)] += 1
    assert 0.45 < codes[True] / codes.total() < 0.55


def test_both_languages_are_within_one_conversation_now_and_then(talks: list[Talk]) -> None:
    mixed = sum(len({is_chinese(turn.question) for turn in turns}) == 2 for _, turns in talks)
    assert 0.05 < mixed / len(talks) < 0.3


# What a question of each sort has to ask for, in so many words.
ASKED = {
    "colour": "colou?r|什么颜色|哪种颜色|颜色",
    "size": "size|large|big|大",
    "count": "how many|count|number|几个|多少|数一数|数量",
    "place": "where|part|place|position|哪里|位置|哪个部分",
    "box": "box|mark|框|标出",
    "reading": "read|sa[iy]|writ|print|text|word|number|sign|字|写|单词|牌子|读",
}


@pytest.mark.parametrize("sort", sorted(ASKED))
def test_a_question_asks_for_what_its_answer_tells(talks: list[Talk], sort: str) -> None:
    found = 0
    for scene, turns in talks:
        for turn in turns:
            if claim(turn.answer) != sort or turn.ability in ("yes_no", "follow_up"):
                continue
            found += 1
            assert re.search(ASKED[sort], turn.question.lower()), turn
            if sort != "reading":
                asked, answered = names_in(turn.question), names_in(turn.answer)
                assert [things_of(scene, name) for name in asked] == [things_of(scene, answered[0])], turn
    assert found > 400


def test_the_colour_asked_for_has_one_shape_and_no_print(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "shape"):
        (colour,) = colours_in(turn.question)
        things = things_of(scene, Named("thing", colour))
        kinds = {thing.kind for thing in things if isinstance(thing, Shape)}
        assert all(isinstance(thing, Shape) for thing in things) and len(kinds) == 1, turn
        (kind,) = kinds
        assert (ZH_KINDS[kind] if is_chinese(turn.answer) else kind) in turn.answer


def test_a_size_is_asked_of_one_shape_alone(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "size"):
        if claim(turn.answer) == "largest":
            assert re.search("largest|biggest|smallest|最", turn.question.lower())
            assert not scene.labels and len(scene.shapes) > 1
        else:
            assert len(things_of(scene, names_in(turn.question)[0])) == 1


def test_what_is_beside_another_is_what_the_question_says(talks: list[Talk]) -> None:
    sides = any_of([*SIDES, *SIDES.values()])
    kinds = Counter()
    for scene, turn in turns_of(talks, "beside"):
        sort = claim(turn.answer)
        question = turn.question.lower()
        asked = [side_of(side) for side in re.findall(sides, question)]
        (answered,) = (side_of(side) for side in re.findall(sides, turn.answer))
        kinds[sort] += 1
        if sort == "what beside":
            assert asked == [answered] and things_of(scene, names_in(question)[-1])
            continue
        if sort == "colour beside":
            assert asked == [answered]
        assert Counter(names_in(question)) == Counter(names_in(turn.answer)), turn
        if turn.answer.startswith(("Yes", "No", "是的", "不是")):
            assert turn.answer.startswith(("Yes", "是的")) == (asked == [answered]), turn
        elif sort == "beside":  # left or right, above or below
            assert len(asked) == 2 and answered in asked
            assert set(asked) in ({"left of", "right of"}, {"above", "below"})
    assert min(kinds.values()) > 100 and set(kinds) == {"beside", "colour beside", "what beside"}


def test_a_thing_that_is_denied_a_side_is_plainly_on_the_other(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "beside"):
        if turn.answer.startswith(("No, ", "不是，")):
            one, other = (things_of(scene, name)[0] for name in names_in(turn.question)[:2])
            (asked,) = re.findall(any_of([*SIDES, *SIDES.values()]), turn.question.lower())
            assert not is_beside(scene, one, side_of(asked), other)


def test_yes_and_no_follow_from_the_picture(talks: list[Talk]) -> None:
    """The question alone, put to the scene, gives the same first word."""
    seen = Counter()
    for scene, turn in turns_of(talks, "yes_no"):
        question, says_yes = turn.question.lower(), turn.answer.startswith(("Yes, ", "是的，", "有，"))
        assert says_yes != turn.answer.startswith(("No, ", "不是，", "没有，"))
        names, number = names_in(question), re.search(r"\d", question)
        if claim(turn.answer) == "text":
            sort, expected = "text", bool(scene.labels)
        elif number:
            sort, expected = "number", len(things_of(scene, names[0])) == int(number[0])
        elif claim(turn.answer) == "colour":
            name = next(name for name in names if name.kind in (*KINDS.values(), "word", "number"))
            (thing,) = things_of(scene, Named(name.kind))
            sort, expected = "is it", thing.colour in colours_in(question)
        elif names and names[0].kind in KINDS.values():
            sort, expected = "there", bool(things_of(scene, names[0]))
        else:
            sort, expected = "colour", bool(things_of(scene, Named("thing", colours_in(question)[0])))
        assert says_yes == expected, turn
        seen[sort, says_yes] += 1
    assert len(seen) == 10 and min(seen.values()) > 10


def test_yes_and_no_are_balanced(talks: list[Talk]) -> None:
    answers = [turn.answer for _, turn in turns_of(talks, "yes_no")]
    assert 0.42 < sum(answer.startswith(("Yes", "是的", "有")) for answer in answers) / len(answers) < 0.58


def test_denied_things_are_mostly_nearly_there(talks: list[Talk]) -> None:
    near, denied = 0, 0
    for scene, turn in turns_of(talks, "yes_no"):
        if claim(turn.answer) == "missing" and scene.shapes:
            (name,) = names_in(turn.answer) or [Named("thing")]
            if name.colour and name.kind in KINDS.values():
                denied += 1
                near += any(shape.colour == name.colour or shape.kind == name.kind for shape in scene.shapes)
    assert denied > 100 and near > 0.7 * denied


def test_what_is_absent_is_asked_for_as_if_it_were_there(talks: list[Talk]) -> None:
    ways = Counter()
    for scene, turn in turns_of(talks, "absent"):
        assert claim(turn.answer) == "missing"
        names = [name for name in names_in(turn.question) if name.kind in KINDS.values()]
        colours = colours_in(turn.question)
        assert names or colours
        asked = names[0] if names else Named("thing", colours[0])
        assert not things_of(scene, asked)
        ways |= {way: 1 for way, words in ASKED.items() if re.search(words, turn.question.lower())}
    assert set(ways) >= {"colour", "size", "place", "box"}


def test_counts_reach_from_none_to_nine(talks: list[Talk]) -> None:
    numbers = Counter()
    for scene, turn in turns_of(talks, "count"):
        numbers[len(things_of(scene, names_in(turn.question)[0]))] += 1
    assert set(numbers) == set(range(10))
    assert all(numbers[number] > 0.02 * numbers.total() for number in range(8))


def test_places_are_asked_for_only_well_within_them(talks: list[Talk]) -> None:
    seen = 0
    for scene, turns in talks:
        for turn in turns:
            if claim(turn.answer) == "place" and not is_of_a_shared_name(scene, turn):
                (thing,) = things_of(scene, names_in(turn.answer)[0])
                seen += 1
                for part in (thing.x / scene.width, thing.y / scene.height):
                    assert min(abs(part - 1 / 3), abs(part - 2 / 3)) > 0.03
    assert seen > 500


def test_what_is_at_a_place_is_what_the_question_asks(talks: list[Talk]) -> None:
    places = any_of([*PLACES, *PLACES.values()])
    seen = Counter()
    for scene, turn in turns_of(talks, "place"):
        if claim(turn.answer) != "at place":
            continue
        (asked,) = re.findall(places, turn.question.lower())
        (answered,) = re.findall(places, turn.answer)
        assert asked == answered
        assert len(scene.labels) < 2
        seen[place_said(asked)] += 1
    assert set(seen) == set(PLACES)


def _alone(scene: Scene, thing: Thing) -> Scene:
    """The thing without all others."""
    shapes = tuple(shape for shape in scene.shapes if shape is thing)
    return replace(scene, panels=(), shapes=shapes, labels=tuple(label for label in scene.labels if label is thing))


def _boxes_of_ink(scene: Scene, answer: str) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Each box of an answer with the one around the ink of the thing it lies nearest to, both 0 to 1000."""
    (name,) = re.findall("<ref>(.+)</ref>", answer)
    around = []
    for thing in things_of(scene, named(name)):
        box = box_of_ink(_alone(scene, thing))
        around.append(tuple(1000 * side / scene.size[number % 2] for number, side in enumerate(box)))
    nearest = [
        min(around, key=lambda other: sum(abs(a - b) for a, b in zip(box, other, strict=True)))
        for box in boxes_in(answer)
    ]
    assert len(set(nearest)) == len(around) == len(boxes_in(answer)), answer
    return list(zip(boxes_in(answer), nearest, strict=True))


def test_a_box_lies_around_the_ink_of_each_thing(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "box")[:250]:
        for said, drawn in _boxes_of_ink(scene, turn.answer):
            slack = 26 + 1000 / min(scene.size)  # boxes are rounded to fifties, ink to whole pixels
            assert said[0] <= drawn[0] + slack and said[1] <= drawn[1] + slack, turn
            assert said[2] >= drawn[2] - slack and said[3] >= drawn[3] - slack, turn


def test_a_box_is_not_much_larger_than_what_it_marks(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "box")[:250]:
        for said, drawn in _boxes_of_ink(scene, turn.answer):
            area = (drawn[2] - drawn[0]) * (drawn[3] - drawn[1])
            assert area > 0.45 * (said[2] - said[0]) * (said[3] - said[1]), turn


def test_several_boxes_are_of_different_things(talks: list[Talk]) -> None:
    several = 0
    for _, turn in turns_of(talks, "box"):
        boxes = boxes_in(turn.answer)
        assert 1 <= len(boxes) <= 5 and len(set(boxes)) == len(boxes)
        assert all(left < right and top < bottom for left, top, right, bottom in boxes)
        several += len(boxes) > 1
    assert several > 100


def test_a_reading_question_calls_a_number_a_number(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "reading"):
        if scene.label is not None:
            question = turn.question.lower()
            assert not re.search("word|单词", question) or scene.label.text.isalpha()
            assert not re.search("number|数字", question) or scene.label.text.isdigit()
            assert not re.search("sign|牌子", question) or scene.panels


def test_the_line_asked_for_is_the_one_told(talks: list[Talk]) -> None:
    told = Counter()
    for scene, turn in turns_of(talks, "lines"):
        question = turn.question.lower()
        texts = [label.text for label in sorted(scene.labels, key=lambda label: label.y)]
        nth = [
            number
            for number, pair in enumerate(ORDINALS.items())
            if pair[0] in question or f"第{pair[1]}行" in question
        ]
        if number := re.search(r"line (\d)", question):
            nth = [int(number[1]) - 1]
        if "last" in question or "最后" in question:
            nth = [len(texts) - 1]
        expected = [texts[number] for number in nth] or texts
        if re.search("how many|count|几行", question):
            assert not nth and str(len(texts)) in turn.answer
            told["count"] += 1
        else:
            assert printed(turn.answer) == expected, turn
            told["line" if nth else "all"] += 1
    assert min(told.values()) > 30 and len(told) == 3


def test_a_follow_up_is_about_the_one_thing_of_the_turn_before(talks: list[Talk]) -> None:
    seen = 0
    for scene, turns in talks:
        assert turns[0].ability != "follow_up"
        for before, turn in itertools.pairwise(turns):
            if turn.ability != "follow_up" or not re.search(IT, turn.question.lower()):
                continue
            assert before.subject is not None
            seen += 1
            about = set(map(id, _things_told_of(scene, before)))
            now = set(map(id, _things_told_of(scene, turn)))
            assert now <= about if is_of_a_shared_name(scene, turn) else now & about, (before, turn)
    assert seen > 300


def _things_told_of(scene: Scene, turn: Turn) -> list[Thing]:
    """What an answer speaks of."""
    if claim(turn.answer) in ("reading", "text", "line"):
        return list(scene.labels)
    if claim(turn.answer) == "description":
        return list(scene.things)
    if printed(turn.answer):
        return list(scene.labels)
    name = re.search("<ref>(.+)</ref>", turn.answer)
    names = [named(name[1])] if name else names_in(turn.answer)
    if claim(turn.answer) in ("colour beside", "what beside") and is_chinese(turn.answer):
        names = names[::-1]
    if claim(turn.answer) == "largest":
        names = names[-1:]
    colours = [Named("thing", colour) for colour in colours_in(turn.answer)]
    return things_of(scene, (names or colours)[0])


def test_and_the_other_asks_the_same_of_the_other(talks: list[Talk]) -> None:
    sorts = Counter()
    for scene, turns in talks:
        for before, turn in itertools.pairwise(turns):
            question = turn.question.lower()
            if turn.ability == "follow_up" and (names := names_in(question)) and not re.search(IT, question):
                sorts[claim(turn.answer)] += 1
                asked = {"reading": "text"}.get(str(claim(before.answer)), claim(before.answer))
                assert claim(turn.answer) == asked, (before, turn)
                (answered, *_) = [named(n) for n in re.findall("<ref>(.+)</ref>", turn.answer)] or names_in(turn.answer)
                assert things_of(scene, names[0]) == things_of(scene, answered)
    assert set(sorts) == {"colour", "place", "size", "count", "box"} and min(sorts.values()) > 20


def test_no_answer_tells_only_what_its_own_name_tells(talks: list[Talk]) -> None:
    for _, turns in talks:
        for turn in turns:
            if (
                claim(turn.answer) in ("colour", "shape", "size")
                and len(names := names_in(turn.answer))
                and not is_chinese(turn.answer)
            ):
                last = turn.answer.rstrip(".").split()[-1]
                assert last not in (names[0].kind, names[0].colour, names[0].size), turn


def test_nothing_is_said_of_a_colour_that_a_sign_has() -> None:
    rng = random.Random(7)
    for _ in range(600):
        scene = random_scene(rng, text="sign")
        if not scene.panels or scene.panels[0].rgb not in ((255, 255, 255),):
            continue
        for turn in talk_about(scene, rng)[1]:
            if claim(turn.answer) == "missing":
                assert "nothing white" not in turn.answer and "白色的东西" not in turn.answer, turn


def test_several_are_not_called_one_in_chinese(talks: list[Talk]) -> None:
    assert not any("那个都" in turn.answer for _, turns in talks for turn in turns)


def test_same_seed_same_conversation() -> None:
    scene = random_scene(random.Random(8))
    facts = Facts(scene)
    assert conversation(facts, random.Random(5), 6) == conversation(facts, random.Random(5), 6)
    assert conversation(facts, random.Random(5), 6) != conversation(facts, random.Random(6), 6)


@pytest.mark.parametrize("turns", [1, 3, 6, 10])
def test_as_many_turns_as_wished_even_of_an_empty_picture(turns: int) -> None:
    assert len(conversation(Facts(Scene(100, 100, WHITE)), random.Random(1), turns)) == turns
    assert len(conversation(Facts(random_scene(random.Random(1))), random.Random(1), turns)) == turns


def test_no_answer_comes_twice_in_a_conversation_with_much_to_tell(talks: list[Talk]) -> None:
    for scene, turns in talks:
        if len(scene.shapes) > 2:
            assert len({turn.answer for turn in turns}) == len(turns), turns


@pytest.mark.parametrize("ability", sorted(ASKERS))
def test_one_ability_alone_can_be_asked_for(ability: str) -> None:
    rng, seen = random.Random(3), 0
    for _ in range(60):
        scene = random_scene(rng, text="lines" if ability == "lines" else None, least_shapes=2)
        turns = conversation(Facts(scene), rng, 3, ability)
        assert {turn.ability for turn in turns} <= {ability, "lines" if ability == "reading" else ability}
        seen += len(turns)
    assert seen > 60


def test_every_ability_is_asked_for_often_enough(talks: list[Talk]) -> None:
    counts = Counter(turn.ability for _, turns in talks for turn in turns)
    assert set(counts) == ABILITIES
    assert all(0.02 * counts.total() < counts[ability] < 0.25 * counts.total() for ability in ABILITIES), counts


def test_english_is_asked_in_many_spellings_and_answered_in_one(talks: list[Talk]) -> None:
    turns = [turn for _, turns in talks for turn in turns if not is_chinese(turn.question)]
    questions = [turn.question for turn in turns]
    for word in ("colour", "color", "picture", "image", "photo", "drawing"):
        assert any(word in question for question in questions), word
    assert any(question.islower() for question in questions)
    assert any(not question.endswith(("?", ".", "!")) for question in questions)
    assert not any(re.search(r"\bcolor", turn.answer) for turn in turns)


def test_the_names_of_languages_are_those_of_the_independent_reading() -> None:
    chinese = language("zh")
    assert {chinese.kinds[kind] for kind in KINDS.values()} == set(KINDS)
    assert {chinese.colours[colour] for colour in COLOURS.values()} == set(COLOURS)


def test_a_count_after_a_count_has_one_meaning(talks: list[Talk]) -> None:
    for scene, turns in talks:
        for before, turn in itertools.pairwise(turns):
            if turn.ability == "follow_up" and claim(turn.answer) == claim(before.answer) == "count":
                (earlier,), (now,) = names_in(before.question)[:1], names_in(turn.question)[:1]
                same_colour = Named(now.kind, earlier.colour)
                assert len(things_of(scene, now)) == len(things_of(scene, same_colour)), (before, turn)
