"""The table of models says what a person needs to choose one."""

from __future__ import annotations

import io

from omnilmm.catalog import cards
from omnilmm.engine.choosing import ListedModel
from omnilmm.ui import model_lines
from omnilmm.ui.listing import memory, write_listing
from omnilmm.ui.texts import ENGLISH, texts_in


def listing(free_gib: float | None = 8.0) -> str:
    out = io.StringIO()
    models = [
        ListedModel(
            card,
            None if free_gib is None else card.best_dtype(free_gib),
            card.name == "built-in",
            {"minicpm-v-4.6": 8.1, "minicpm-v-4.7": 8.1, "minicpm-v-4": 2.0, "minicpm-v-4.5": 2.0}.get(card.name),
        )
        for card in cards().values()
    ]
    write_listing(models, free_gib, "cuda (a GPU)", out)
    return out.getvalue()


def test_every_model_with_its_size_memory_languages_abilities_and_licence() -> None:
    text = listing()
    for card in cards().values():
        assert card.name in text and card.licence in text and card.licence_url in text
        assert memory(card).split(" · ")[0] in text
    assert "8.0 GiB free" in text and "several pictures, system prompt, boxes" in text


def test_dtypes_that_take_the_same_memory_stand_together() -> None:
    assert memory(cards()["minicpm-v-2"].model_copy(update={"memory_gib": {"fp32": 15, "bf16": 8, "fp16": 8}})) == (
        "fp32 15 · bf16/fp16 8"
    )
    assert memory(cards()["minicpm-v-4.6"].model_copy(update={"memory_gib": {}})) == "known once fetched"


def test_what_the_makers_say_about_generated_content_is_shown() -> None:
    assert "does not represent the views of its developers" in listing()


def test_what_fits_is_said_with_the_dtype() -> None:
    rows = {line.split("│")[1].strip(): line for line in listing().splitlines() if "│" in line}
    assert "yes, in bf16" in rows["built-in"]
    assert "yes, in int4" in rows["minicpm-llama3-v-2.5-int4"]
    assert rows["omnilmm-12b"].split("│")[6].strip() == "no"
    fits, speed, is_here = (cell.strip() for cell in rows["minicpm-v-4.6"].split("│")[6:9])
    assert (fits, speed, is_here) == ("yes, in bf16", "~6", "no")
    assert "~" not in rows["minicpm-v-2.6"]  # not known
    best = "Best for this machine: --model minicpm-v-4.7 (1.6 B, 2.9 GiB to download, about 6 words a second here)"
    assert best in listing()


def test_where_free_memory_is_unknown_nothing_is_claimed() -> None:
    assert "yes, in" not in listing(None) and "Best" not in listing(None)


def entry(
    name: str, fits: str | None = "bf16", is_here: bool = False, tokens_per_s: float | None = 12.2
) -> ListedModel:
    return ListedModel(cards()[name], fits, is_here, tokens_per_s)


def test_a_model_in_two_short_lines() -> None:
    english, chinese = (texts_in(code) for code in ("en", "zh"))
    small = entry("minicpm-v-4.6")
    assert model_lines.title(small, english) == "MiniCPM-V 4.6 · 1.3 B"
    assert model_lines.facts(small, english) == "fits in bf16 · ~9 words/s · ↓ 2.4 GiB"
    assert model_lines.facts(small, chinese) == "可用 bf16 运行 · 每秒约 18 字 · 下载 2.4 GiB"
    here = entry("built-in", is_here=True, tokens_per_s=None)
    assert model_lines.facts(here, english) == f"fits in bf16 · {english.here_short}"
    large = entry("omnilmm-12b", None, tokens_per_s=None)
    assert model_lines.facts(large, english) == "does not fit: needs 13 GiB · ↓ 21.6 GiB"
    for card in cards().values():
        for texts in (english, chinese):
            for fits, speed in (("bf16", 12.2), (None, None)):
                listed = ListedModel(card, fits, False, speed)
                assert len(model_lines.title(listed, texts)) <= 48 and len(model_lines.facts(listed, texts)) <= 54


def test_an_offer_says_why() -> None:
    small = entry("minicpm-v-4.6")
    assert model_lines.reason(small, ENGLISH) == "1.3 B, 2.4 GiB to download, about 9 words a second here"
    assert model_lines.reason(small, texts_in("zh")) == "1.3 B，需下载 2.4 GiB，在这台机器上每秒约 18 字"
    slow = entry("minicpm-v-2.6", is_here=True, tokens_per_s=0.5)
    assert model_lines.reason(slow, ENGLISH) == f"8.1 B, {ENGLISH.here}, about 0.4 words a second here"
    assert model_lines.reason(entry("minicpm-v-2.6", tokens_per_s=None), ENGLISH) == "8.1 B, 15.1 GiB to download"
