"""The table of models says what a person needs to choose one."""

from __future__ import annotations

import io

from omnilmm.catalog import cards
from omnilmm.engine.choosing import Listed
from omnilmm.ui.listing import memory, write_listing


def listing(free_gib: float | None = 8.0) -> str:
    out = io.StringIO()
    models = [Listed(card, None if free_gib is None else card.best_dtype(free_gib), False) for card in cards().values()]
    write_listing(models, free_gib, "cuda (a GPU)", out)
    return out.getvalue()


def test_every_model_with_its_size_memory_languages_abilities_and_licence() -> None:
    text = listing()
    for card in cards().values():
        assert card.name in text and card.licence in text and card.licence_url in text
        assert memory(card).split(" · ")[0] in text
    assert "8.0 GiB free" in text and "several pictures, system prompt, boxes" in text


def test_number_types_that_take_the_same_stand_together() -> None:
    assert memory(cards()["minicpm-v-2"].model_copy(update={"memory_gib": {"fp32": 15, "bf16": 8, "fp16": 8}})) == (
        "fp32 15 · bf16/fp16 8"
    )
    assert memory(cards()["minicpm-v-4.6"]) == "known once fetched"


def test_what_the_makers_say_about_generated_content_is_shown() -> None:
    assert "does not represent the views of its developers" in listing()


def test_what_fits_is_said_with_the_number_type() -> None:
    rows = {line.split("│")[1].strip(): line for line in listing().splitlines() if "│" in line}
    assert "yes, in bf16" in rows["built-in"]
    assert "yes, in int4" in rows["minicpm-llama3-v-2.5-int4"]
    assert rows["omnilmm-12b"].split("│")[6].strip() == "no"
    assert rows["minicpm-v-4.6"].split("│")[6].strip() == "?"


def test_where_free_memory_is_unknown_nothing_is_claimed() -> None:
    assert "yes, in" not in listing(None)
