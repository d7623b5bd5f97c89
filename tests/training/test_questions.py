"""Every answer is true: an independent reading of the scene comes to the same, and questions leave no choice."""

import itertools
import random
import re
from collections import Counter

import pytest

from omnilmm.training.abilities import CHAT_ANSWER, NO_TEXT, Turn
from omnilmm.training.facts import NOTHING, PLACES
from omnilmm.training.outlines import KINDS
from omnilmm.training.palette import COLOURS, Background
from omnilmm.training.phrasings import WAYS_TO_ASK
from omnilmm.training.printing import is_held_out
from omnilmm.training.questions import ABILITIES, conversation_about, corpus
from omnilmm.training.scenes import Scene, Shape, Thing, random_scene

Talk = tuple[Scene, list[Turn]]
KIND = "|".join(KINDS)
KINDS_MANY = "circles|squares|triangles|stars|crosses|hearts"
COLOUR = "|".join(COLOURS)
PLACE = "|".join(place for row in PLACES for place in row)


@pytest.fixture(scope="module")
def talks() -> list[Talk]:
    rng = random.Random(21)
    scenes = [random_scene(rng) for _ in range(1500)]
    return [(scene, conversation_about(scene, rng)) for scene in scenes]


def turns_of(talks: list[Talk], ability: str) -> list[tuple[Scene, Turn]]:
    return [(scene, turn) for scene, turns in talks for turn in turns if turn.ability == ability]


def singular(kinds: str) -> str:
    return "cross" if kinds == "crosses" else kinds.removesuffix("s")


def things_named(scene: Scene, name: str) -> list[Thing]:
    """All that a name may mean: "star", "red star", "red one", "shape", "red shape", "word", "number"."""
    if name in ("word", "number"):
        label = scene.label
        return [label] if label is not None and label.text.isdigit() == (name == "number") else []
    words = name.split()
    things: list[Thing] = list(scene.shapes)
    if words[-1] in ("one", "thing") and scene.label is not None:
        things.append(scene.label)
    for word in words:
        if word in COLOURS:
            things = [thing for thing in things if thing.colour == word]
        elif word in KINDS:
            things = [thing for thing in things if isinstance(thing, Shape) and thing.kind == word]
        else:
            assert word in ("shape", "one", "thing"), name
    return things


def places_of(scene: Scene, thing: Thing) -> str:
    across = ("left", "", "right")[int(3 * thing.x // scene.width)]
    down = ("top", "", "bottom")[int(3 * thing.y // scene.height)]
    if not across and not down:
        return "in the middle"
    return f"on the {across}" if not down else f"at the {down} {across}".strip()


def is_true(scene: Scene, answer: str) -> bool:
    """Reads an answer on its own, without knowing the question, and checks it with the scene."""
    if answer == NO_TEXT or answer == "No, there is no text.":
        return scene.label is None
    if answer == NOTHING:
        return scene.label is None and not scene.shapes
    answer = answer.removeprefix("Yes, ").removeprefix("No, ")
    answer = answer[0].upper() + answer[1:]
    if match := re.fullmatch(r'It says "([A-Z0-9]+)"\.', answer):
        return scene.label is not None and scene.label.text == match[1]
    if match := re.fullmatch(rf"(?:I see|There is) no ((?:(?:{COLOUR}) )?(?:{KIND}))\.", answer):
        return not things_named(scene, match[1])
    if match := re.fullmatch(rf"(?:I see|There is) nothing ({COLOUR})\.", answer):
        return not things_named(scene, f"{match[1]} thing")
    if match := re.fullmatch(rf"There is something ({COLOUR})\.", answer):
        return bool(things_named(scene, f"{match[1]} thing"))
    if match := re.fullmatch(rf"There (?:are|is) (no|\d) ((?:(?:{COLOUR}) )?)({KIND}|{KINDS_MANY}|shapes?)\.", answer):
        count = 0 if match[1] == "no" else int(match[1])
        one = match[3] in (*KINDS, "shape")
        kind = match[3] if one else singular(match[3])
        return one == (count == 1) and len(things_named(scene, f"{match[2]}{kind}")) == count
    if match := re.fullmatch(r"There is an? (.+)\.", answer):
        return bool(things_named(scene, match[1]))
    if match := re.fullmatch(rf"The (.+) is ({COLOUR})\.", answer):
        things = things_named(scene, match[1])
        return len(things) == 1 and things[0].colour == match[2]
    if match := re.fullmatch(rf"The ({KINDS_MANY}) are ({COLOUR})\.", answer):
        things = things_named(scene, singular(match[1]))
        return len(things) > 1 and all(thing.colour == match[2] for thing in things)
    if match := re.fullmatch(rf"The ({COLOUR}) ones are ({KINDS_MANY})\.", answer):
        things = things_named(scene, f"{match[1]} one")
        return len(things) > 1 and all(isinstance(t, Shape) and t.kind == singular(match[2]) for t in things)
    if match := re.fullmatch(rf"The ({COLOUR}) one is an? ({KIND})\.", answer):
        things = things_named(scene, f"{match[1]} one")
        return len(things) == 1 and isinstance(things[0], Shape) and things[0].kind == match[2]
    if match := re.fullmatch(rf"The (.+) is ({PLACE})\.", answer):
        things = things_named(scene, match[1])
        return len(things) == 1 and places_of(scene, things[0]) == match[2]
    if match := re.fullmatch(rf"An? (.+) is ({PLACE})\.", answer):
        things = scene.things
        here = [thing for thing in things if places_of(scene, thing) == match[2]]
        return len(here) == 1 and here == [t for t in things_named(scene, match[1]) if t in here]
    if answer.startswith("I see "):
        return Counter(listed(answer)) == Counter(
            [f"{shape.colour} {shape.kind}" for shape in scene.shapes] + ([scene.label.text] if scene.label else [])
        )
    return answer == CHAT_ANSWER


def listed(answer: str) -> list[str]:
    """The things that a description names, equal ones as often as it says."""
    things = []
    for part in re.split(r", | and ", answer.removeprefix("I see ").removesuffix(".")):
        first, rest = part.split(" ", 1)
        if first == "the":
            things.append(rest.removeprefix("word ").removeprefix("number "))
        elif first in ("a", "an"):
            things.append(rest)
        else:
            colour, kinds = rest.split()
            things += [f"{colour} {singular(kinds)}"] * ("two", "three", "four", "five", "six").index(first)
            things += [f"{colour} {singular(kinds)}"] * 2
    return things


def test_every_answer_is_true(talks: list[Talk]) -> None:
    for scene, turns in talks:
        for turn in turns:
            assert is_true(scene, turn.answer), (turn, scene)


def test_the_checker_itself_notices_lies(talks: list[Talk]) -> None:
    lies = 0
    for (_, turns), (other, _) in itertools.pairwise(talks):
        lies += sum(not is_true(other, turn.answer) for turn in turns if turn.ability == "description")
    assert lies > 0.9 * len(turns_of(talks, "description"))


def test_same_seed_same_conversation() -> None:
    scene = random_scene(random.Random(8))
    assert conversation_about(scene, random.Random(5)) == conversation_about(scene, random.Random(5))


@pytest.mark.parametrize("turns", [1, 3, 6, 10])
def test_as_many_turns_as_wished_even_of_an_empty_picture(turns: int) -> None:
    plain = Background("plain", (255, 255, 255), (255, 255, 255), 0.0, 9.0)
    empty = Scene(100, 100, plain, (), None, 0.0, 0.0, 0, 1)
    assert len(conversation_about(empty, random.Random(1), turns)) == turns
    assert len(conversation_about(random_scene(random.Random(1)), random.Random(1), turns)) == turns


def test_abilities_are_about_equally_frequent(talks: list[Talk]) -> None:
    counts = Counter(turn.ability for _, turns in talks for turn in turns)
    total = sum(counts.values())
    assert set(counts) == set(ABILITIES)
    assert 0.01 < counts["chat"] / total < 0.035
    assert 0.12 < counts["description"] / total < 0.18
    for ability in set(ABILITIES) - {"chat"}:
        assert 0.06 < counts[ability] / total < 0.22, ability  # the most is counting, which is the hardest


def test_yes_and_no_are_balanced(talks: list[Talk]) -> None:
    answers = [turn.answer for _, turn in turns_of(talks, "yes_no")]
    assert all(answer.startswith(("Yes, ", "No, ")) for answer in answers)
    assert 0.45 < sum(answer.startswith("Yes") for answer in answers) / len(answers) < 0.55


def test_denied_things_are_mostly_nearly_there(talks: list[Talk]) -> None:
    near, denied = 0, 0
    for scene, turn in turns_of(talks, "yes_no"):
        match = re.fullmatch(rf"No, there is no ({COLOUR}) ({KIND})\.", turn.answer)
        if match and scene.shapes:
            denied += 1
            near += any(shape.colour == match[1] or shape.kind == match[2] for shape in scene.shapes)
    assert denied > 100 and near > 0.7 * denied


def test_some_questions_are_about_absent_things(talks: list[Talk]) -> None:
    for ability in ("colour", "place"):
        answers = [turn.answer for _, turn in turns_of(talks, ability)]
        assert 0.04 < sum(answer.startswith("I see no ") for answer in answers) / len(answers) < 0.13


def test_counts_reach_from_none_to_six(talks: list[Talk]) -> None:
    answers = [turn.answer for _, turn in turns_of(talks, "count")]
    numbers = Counter(answer.split()[2] for answer in answers)
    assert set(numbers) == {"no", "1", "2", "3", "4", "5", "6"}
    assert min(numbers.values()) > 0.04 * len(answers)


def test_the_answer_is_about_what_the_question_names(talks: list[Talk]) -> None:
    for scene, turns in talks:
        for turn in turns:
            question = turn.question.lower()
            kinds = set(re.findall(rf"\b(?:{KINDS_MANY}|{KIND})\b", question))
            answered = set(re.findall(rf"\b(?:{KINDS_MANY}|{KIND})\b", turn.answer))
            if kinds and turn.ability in ("colour", "count", "place", "yes_no"):
                assert {k if k in KINDS else singular(k) for k in kinds} == {
                    k if k in KINDS else singular(k) for k in answered
                }, turn
            if turn.ability in ("count", "shape") and (colours := re.findall(rf"\b(?:{COLOUR})\b", question)):
                assert colours[0] in turn.answer
            if turn.ability == "reading" and scene.label is None:
                assert turn.answer == NO_TEXT


def test_a_reading_question_calls_a_number_a_number(talks: list[Talk]) -> None:
    for scene, turn in turns_of(talks, "reading"):
        if scene.label is not None:
            assert ("word" not in turn.question.lower()) or scene.label.text.isalpha()
            assert ("number" not in turn.question.lower()) or scene.label.text.isdigit()


def test_places_are_asked_for_only_well_within_them(talks: list[Talk]) -> None:
    for scene, turns in talks:
        for turn in turns:
            match = re.fullmatch(rf"The (.+) is (?:{PLACE})\.", turn.answer)
            if match:
                (thing,) = things_named(scene, match[1])
                for part in (3 * thing.x / scene.width, 3 * thing.y / scene.height):
                    assert min(abs(part - 1), abs(part - 2)) > 0.1


def test_a_follow_up_is_about_the_one_thing_of_the_turn_before(talks: list[Talk]) -> None:
    seen = 0
    for scene, turns in talks:
        assert turns[0].ability != "follow_up"
        for before, turn in itertools.pairwise(turns):
            if turn.ability != "follow_up":
                continue
            seen += 1
            assert re.search(r"\b(it|its)\b", turn.question.lower())
            if match := re.fullmatch(r"The (.+) is .+\.", turn.answer):
                (thing,) = things_named(scene, match[1])
            else:
                assert scene.label is not None
                thing = scene.label
            if match := re.search(r"\bThe (.+) is |\bthe (.+) is ", before.answer):
                assert things_named(scene, match[1] or match[2]) == [thing]
            elif match := re.fullmatch(r"(?:Yes, t|T)here is (?:1|a|an) (.+)\.", before.answer):
                assert things_named(scene, match[1]) == [thing]
            elif match := re.fullmatch(r"Yes, there is something (.+)\.", before.answer):
                assert things_named(scene, f"{match[1]} thing") == [thing]
            elif before.answer.startswith(("It says", "A word", "A number")):
                assert thing == scene.label
            else:  # a description, or "No, there is 1 star."
                assert len(scene.shapes) + (scene.label is not None) == 1 or before.answer.startswith("No, there is 1 ")
    assert seen > 300


def test_there_are_many_ways_to_ask(talks: list[Talk]) -> None:
    assert all(len(set(ways)) >= 6 for ways in WAYS_TO_ASK.values())
    questions = [turn.question for _, turns in talks for turn in turns]
    for word in ("colour", "color", "picture", "image", "photo"):
        assert any(word in question for question in questions), word
    assert any(question.islower() for question in questions)
    assert any(not question.endswith(("?", ".", "!")) for question in questions)


def test_answers_have_one_spelling(talks: list[Talk]) -> None:
    assert not any(re.search(r"\bcolor", turn.answer) for _, turns in talks for turn in turns)


def test_corpus_spells_printed_words_and_keeps_the_rest() -> None:
    texts = list(corpus(random.Random(6), 3000))
    assert len(texts) == 3000
    assert texts == list(corpus(random.Random(6), 3000))
    assert not any(re.search(r"[A-Z]{2}|\d\d", text) for text in texts)
    assert any(re.fullmatch(r'It says "[A-Z]( [A-Z]){2,5}"\.', text) for text in texts)
    assert any("colour" in text for text in texts)


def test_held_out_texts_are_asked_about_only_in_evaluation() -> None:
    rng = random.Random(9)
    for held_out in (False, True):
        for _ in range(150):
            for turn in conversation_about(random_scene(rng, held_out=held_out), rng):
                if match := re.fullmatch(r'It says "(.+)"\.', turn.answer):
                    assert is_held_out(match[1]) == held_out
