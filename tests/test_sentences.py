"""What is said to a reader comes in their language and for their door; that every code has words: `test_structure`."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import pytest

from omnilmm.engine.fetching.errors import HubError
from omnilmm.errors import CheckpointError, HardwareError, ImageError, OmniLMMError
from omnilmm.sentences import Door, Language, Sentence, words_of
from tests.test_structure import ENGLISH, gaps

DOORS: tuple[Door, ...] = get_args(Door)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("door", DOORS)
def test_all_words_can_be_filled(language: Language, door: Door) -> None:
    """With a number in each gap, with a list where it is a choice."""
    for code, words in words_of(language, door).items():
        specs = {name: spec for _, name, spec, _ in Formatter().parse(words) if name}
        every = gaps(ENGLISH[code]) | gaps(words_of("en", "page")[code])
        given = {name: ("a", "b") if specs.get(name) in ("and", "or", "clauses") else 7 for name in every}
        text = Sentence(code, **given).worded(language, door)
        assert not re.match(rf"{code} \(\w+=", text), text


def test_sentences_stand_within_sentences_and_lists_are_read_out() -> None:
    ways = [Sentence("use_dtype", dtype="int8"), Sentence("use_model", model="omnilmm-12b", title="OmniLMM-12B")]
    error = HardwareError("no_bf16_on_metal", ways=[*ways, Sentence("use_smaller_model")])
    assert str(error).endswith("Use --dtype int8 or --model omnilmm-12b or a smaller model.")
    assert error.sentence.worded("en", "page").endswith("the dtype int8 or the model OmniLMM-12B or a smaller model.")
    assert error.sentence.worded("zh", "page").endswith("请使用数据类型 int8，或模型 OmniLMM-12B，或更小的模型。")
    settings = Sentence("hub_fails", title="X", hub="H", source="s", why="w", settings=["a", "b", "c"], way="d")
    assert "Check a, b and c, or d." in str(settings)
    assert Sentence("no_weights", folder="f", expected=["only"]).worded("zh") == "f 里没有权重：应有 only 之一。"


def test_what_somebody_else_says_is_text_and_never_words_with_gaps() -> None:
    error = ImageError("of_file", name="{reason} {0}.png", reason=OSError("{name!r:>9999999}"))
    assert str(error) == "{reason} {0}.png: {name!r:>9999999}"
    assert str(OmniLMMError("A plug-in's own {words}.")) == "A plug-in's own {words}."
    assert str(Sentence("of_file", name="a.png")) == "of_file (name=a.png)", "better said badly than not at all"


@pytest.mark.parametrize("kind", [ImageError, HubError])
def test_an_error_travels_between_processes_as_it_is(kind: type[OmniLMMError]) -> None:
    error = kind("of_message", number=3, reason=ImageError("no_pixels", width=0, height=Path("x")))
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301
    sent = kind.of(Sentence.from_json(json.loads(json.dumps(error.sentence.to_json()))))
    for copy in (pickled, sent):
        assert type(copy) is kind and copy.sentence == error.sentence and str(copy) == str(error)
        assert (copy.code, copy.parameters["number"]) == ("of_message", 3)
    assert hash(error.sentence) == hash(copy.sentence)


NONE: list[Any] = [
    None,
    "no_pixels",
    {"code": 3, "parameters": {}},
    {"code": "no_pixels"},
    {"code": "no_pixels", "parameters": [1]},
]


@pytest.mark.parametrize("given", NONE)
def test_what_is_no_sentence_is_not_taken_for_one(given: Any) -> None:
    with pytest.raises((KeyError, TypeError)):
        Sentence.from_json(given)


def test_an_error_within_an_error_keeps_its_language() -> None:
    inner = CheckpointError("json_unreadable", path="a/config.json", reason="line 1")
    outer = HardwareError("nothing_fetched", reason=inner)
    assert (
        outer.sentence.worded("zh", "page")
        == "a/config.json 无法作为 JSON 读取：line 1。请重新下载。没有下载任何内容。"
    )
