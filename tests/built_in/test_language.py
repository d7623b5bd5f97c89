"""Both languages say the same things: the same keys, gaps that can be filled, and grammar that fits."""

from __future__ import annotations

import random
import re
from string import Formatter
from typing import Any

import pytest

from built_in.charts import random_chart, random_table
from built_in.facts import Facts
from built_in.language import CODES, Chinese, Code, English, Language, Name, language
from built_in.lessons import ASKERS
from built_in.outlines import KINDS
from built_in.palette import COLOURS
from built_in.questions.charts import ask_chart, ask_table
from built_in.questions.pictures import ask_compared, ask_how_many, ask_in_one, ask_which
from built_in.questions.telling import ask_follow_up, ask_same
from built_in.scenes import SIZES, Scene, TextLayout, random_scene
from tests.built_in.ink import WHITE

ELSEWHERE = {"photo", "give picture"}  # said by lessons, not by questions


def gaps_of(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def test_both_languages_have_the_same_tables() -> None:
    english, chinese = (vars(language(code)) for code in CODES)
    assert set(english) == set(chinese)
    for table in ("kinds", "colours", "sizes", "places", "sides", "questions", "answers", "chat"):
        assert set(english[table]) == set(chinese[table]), table
    assert len(english["ordinals"]) == len(chinese["ordinals"]) == len(set(chinese["ordinals"]))


@pytest.mark.parametrize("code", CODES)
def test_every_word_of_the_scenes_has_a_word_of_its_own(code: Code) -> None:
    spoken = language(code)
    for table, keys in ((spoken.kinds, KINDS), (spoken.colours, COLOURS), (spoken.sizes, SIZES)):
        assert set(keys) <= set(table)
        assert len({table[key] for key in keys}) == len(keys)
    assert len(set(spoken.places.values())) == 9
    assert len(set(spoken.sides.values())) == 4


@pytest.mark.parametrize("code", CODES)
def test_every_question_has_several_ways_to_ask_and_every_answer_one(code: Code) -> None:
    spoken = language(code)
    for key, ways in spoken.questions.items():
        assert len(ways) >= 2 and len(set(ways)) == len(ways), key
        # All ways to ask the same thing; whether the number of a line is a word or a figure is all the same.
        sets = {frozenset(gaps_of(way)) - {"nth", "number", "nth_capital", "side", "other side"} for way in ways}
        assert len(sets) == 1 or key in ("shape many",), key
    for topic, said in spoken.chat.items():
        assert set(said) == {"questions", "answer"} and len(said["questions"]) >= 4, topic
    assert all(isinstance(answer, str) and answer for answer in spoken.answers.values())


def test_chinese_is_chinese_and_english_is_ascii() -> None:
    english, chinese = language("en"), language("zh")
    for text in texts_of(english):
        assert text.isascii(), text
    for text in texts_of(chinese):
        bare = re.sub(r"\{[^}]*\}|OmniLMM Chat", "", text)
        assert not re.search("[A-Za-z?!,]", bare), text


def texts_of(spoken: Language) -> list[str]:
    said = [text for ways in spoken.questions.values() for text in ways] + list(spoken.answers.values())
    return said + [text for topic in spoken.chat.values() for text in (*topic["questions"], topic["answer"])]


def all_ways_at_once(code: Code) -> Language:
    """A language that asks in all its ways at once, and marks each sentence with the number of its key."""
    spoken: Language = English(code) if code == "en" else Chinese(code)
    marks = {key: f"#{number}#" for number, key in enumerate(keys_of(spoken))}
    spoken.questions = {key: [marks["?", key] + " ".join(ways)] for key, ways in spoken.questions.items()}
    spoken.answers = {key: marks["!", key] + answer for key, answer in spoken.answers.items()}
    return spoken


def keys_of(spoken: Language) -> list[tuple[str, str]]:
    return [("?", key) for key in spoken.questions] + [("!", key) for key in spoken.answers]


def everything_said(code: Code) -> list[str]:
    """Questions and answers of all sorts about many pictures."""
    rng, spoken, said = random.Random(2), all_ways_at_once(code), []
    layouts: list[TextLayout] = ["none", "label", "lines", "sign"]
    for number in range(350):
        facts = [Facts(random_scene(rng, text=rng.choice(layouts))) for _ in range(3)]
        facts[0] = Facts(Scene(100, 100, WHITE)) if number == 0 else facts[0]
        turns = [asker(facts[0], rng, spoken) for asker in ASKERS.values() for _ in range(2)]
        for turn in [turn for turn in turns if turn is not None]:
            turns.append(ask_same(facts[0], rng, spoken, turn))
            if turn.subject is not None:
                turns.append(ask_follow_up(facts[0], rng, spoken, turn.subject))
        turns += [ask_chart(random_chart(rng), rng, spoken), ask_table(random_table(rng), rng, spoken)]
        turns += [ask_compared(facts[: 2 + number % 2], rng, spoken), ask_which(facts[:2], rng, spoken)]
        turns += [
            ask_in_one(facts, rng, spoken, number % 3, ASKERS["colour"]),
            ask_how_many(number % 3 + 1, rng, spoken),
        ]
        said += [f"{turn.question} {turn.answer}" for turn in turns if turn is not None]
    return said


@pytest.mark.parametrize("code", CODES)
def test_every_way_to_ask_and_to_answer_can_be_filled_and_is_used(code: Code) -> None:
    """A gap that no question fills would be an error here; a key that nobody asks for would be missing."""
    said, keys = everything_said(code), keys_of(language(code))
    used = {keys[int(number)] for text in said for number in re.findall(r"#(\d+)#", text)}
    assert set(keys) - used == {("!", key) for key in ELSEWHERE}
    assert not any(re.search(r"[{}]|None\b(?! of)", text) for text in said)


@pytest.mark.parametrize(
    ("name", "one", "many", "some"),
    [
        (Name("star"), "star", "stars", "a star"),
        (Name("cross", "orange"), "orange cross", "orange crosses", "an orange cross"),
        (Name("heart", size="large"), "large heart", "large hearts", "a large heart"),
        (Name("one", "red"), "red one", "red ones", "a red one"),
    ],
)
def test_english_has_articles_and_plurals(name: Name, one: str, many: str, some: str) -> None:
    english = language("en")
    assert (english.one(name), english.many(name), english.some(name)) == (one, many, some)
    assert english.some(name, 3) == f"three {many}"
    assert english.counted(name, 0) == f"There are no {many}."
    assert english.counted(name, 1) == f"There is 1 {one}."
    assert english.counted(name, 7) == f"There are 7 {many}."


def test_chinese_has_measure_words_and_no_plurals() -> None:
    chinese, name = language("zh"), Name("star", "red", "large")
    assert chinese.one(name) == "红色的大星形"
    assert chinese.some(name, 2) == "2个红色的大星形"
    assert chinese.counted(name, 0).startswith("没有") and "3个" in chinese.counted(name, 3)


def test_lists_are_joined_as_they_are_spoken() -> None:
    assert language("en").joined(["a", "b", "c"]) == "a, b and c"
    assert language("zh").joined(["a", "b", "c"]) == "a、b和c"
    assert language("en").joined(["a"]) == language("zh").joined(["a"]) == "a"


@pytest.mark.parametrize("code", CODES)
def test_printed_text_keeps_its_letters_in_whatever_way_a_question_is_spelled(code: Code) -> None:
    spoken, rng = language(code), random.Random(1)
    gaps: dict[str, Any] = {"text": spoken.quoted("CAT"), "other": spoken.quoted("DOG7")}
    questions = {spoken.ask("bars compared", rng, **gaps) for _ in range(100)}
    assert len(questions) > 4
    assert all(re.findall('["“](.+?)["”]', question) in (["CAT", "DOG7"], ["DOG7", "CAT"]) for question in questions)


@pytest.mark.parametrize("code", CODES)
def test_small_talk_has_one_answer_for_each_question(code: Code) -> None:
    spoken, rng = language(code), random.Random(1)
    answers: dict[str, set[str]] = {}
    for _ in range(400):
        question, answer = spoken.small_talk(rng)
        answers.setdefault(question, set()).add(answer)
    assert all(len(given) == 1 for given in answers.values())
    assert len({answer for given in answers.values() for answer in given}) == len(spoken.chat)
