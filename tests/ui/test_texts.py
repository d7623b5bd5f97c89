"""The lines about the model say what a person wants to know before trusting it."""

from __future__ import annotations

from string import Formatter

import pytest

from omnilmm.catalog import cards
from omnilmm.engine.events import Progress
from omnilmm.hardware import Choice
from omnilmm.ui import texts
from tests.ui.scripted import ScriptedEngine


def test_the_model_line_says_what_it_really_takes() -> None:
    line = texts.model_line(ScriptedEngine())
    assert "cpu (it is a test), fp32 (it is a test), 3.0 GiB of memory" in line


def test_a_quantised_model_says_what_that_costs() -> None:
    engine = ScriptedEngine()
    engine.dtype, engine.memory_bytes = Choice("int4", "as asked"), 7 * 2**20
    assert "int4 (as asked; saves memory, may be slower), 7 MiB of memory" in texts.model_line(engine)


def test_licence_and_the_makers_statement_are_shown_with_every_model() -> None:
    for card in cards().values():
        about = texts.about(card)
        assert card.note in about and card.licence in about and card.licence_url in about and card.statement in about


def test_while_it_starts_the_download_is_shown_in_sizes() -> None:
    card = cards()["minicpm-v-2.6"]
    line = texts.starting_line(card, Progress("downloading", 4 * 2**30, 16 * 2**30), None)
    assert line == "MiniCPM-V 2.6: downloading, 4.0 of 16.0 GiB (25%)"
    assert texts.starting_line(card, Progress("loading"), None) == "MiniCPM-V 2.6: loading …"
    assert "no space" in texts.starting_line(card, Progress("loading"), OSError("no space"))


def gaps(value: object) -> object:
    if isinstance(value, dict):
        return {key: gaps(part) for key, part in value.items()}
    return sorted(field for _, field, _, _ in Formatter().parse(str(value)) if field)


def test_both_languages_have_the_same_keys_and_gaps() -> None:
    english, chinese = (texts.texts_in(code).model_dump() for code in texts.CODES)
    assert {key: gaps(value) for key, value in english.items()} == {key: gaps(value) for key, value in chinese.items()}
    same = {key for key, value in english.items() if chinese[key] == value}
    assert same == {"title"}


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.1", "en"),
        ("fr-FR,zh-TW;q=0.7", "zh"),
        ("de", "en"),
        ("ZH_hant", "zh"),
        ("", "en"),
        (None, "en"),
        (";;,,--", "en"),
    ],
)
def test_the_language_is_the_browsers(wanted: str | None, code: str) -> None:
    assert texts.texts_for(wanted).code == code
