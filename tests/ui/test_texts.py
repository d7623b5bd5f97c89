"""The lines about the model say what a person wants to know before trusting it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from string import Formatter

import pytest
from PIL import Image

from omnilmm.archive import read_conversation
from omnilmm.catalog import cards
from omnilmm.conversation import Conversation
from omnilmm.engine.context import ContextWindow
from omnilmm.engine.events import Progress
from omnilmm.engine.fetching import fetch
from omnilmm.engine.options import Sampling
from omnilmm.engine.placement import device_memory
from omnilmm.engine.placement.fit import check_download
from omnilmm.errors import FLAGS, HardwareError, OmniLMMError, way_out
from omnilmm.hardware import Choice, resolve_device, resolve_dtype
from omnilmm.images.decoder_pool import Decoder
from omnilmm.images.limits import Limits, too_large
from omnilmm.images.pixels import open_picture
from omnilmm.models.library import check_quantised
from omnilmm.ui import texts
from omnilmm.ui.note import Note
from omnilmm.ui.texts import ENGLISH
from tests.ui.scripted import ScriptedEngine, finished


def test_the_model_line_says_what_it_really_takes() -> None:
    line = ENGLISH.model_line(ScriptedEngine())
    assert "cpu (it is a test), fp32 (it is a test), 3.0 GiB of memory" in line


def test_a_quantised_model_says_what_that_costs() -> None:
    engine = ScriptedEngine()
    engine.dtype, engine.memory_bytes = Choice("int4", "as requested"), 7 * 2**20
    assert "int4 (as requested; saves memory, may be slower), 7 MiB of memory" in ENGLISH.model_line(engine)


def test_licence_and_the_makers_statement_are_shown_with_every_model() -> None:
    for card in cards().values():
        about = ENGLISH.about(card)
        assert card.note in about and card.licence in about and card.licence_url in about and card.statement in about


def test_while_it_starts_the_download_is_shown_in_sizes() -> None:
    card = cards()["minicpm-v-2.6"]
    line = ENGLISH.starting_line(card, Progress("downloading", 4 * 2**30, 16 * 2**30), None)
    assert line == "MiniCPM-V 2.6: downloading, 4.0 of 16.0 GiB (25%)"
    small = ENGLISH.starting_line(card, Progress("downloading", 3 * 2**20, 12 * 2**20), None)
    assert small == "MiniCPM-V 2.6: downloading, 3.0 of 12.0 MiB (25%)"
    assert ENGLISH.starting_line(card, Progress("loading"), None) == "MiniCPM-V 2.6: loading …"
    assert "no space" in ENGLISH.starting_line(card, Progress("loading"), OSError("no space"))


def test_an_answer_that_a_change_of_models_cut_off_says_so_and_can_go_on() -> None:
    note = Note(finished("half", reason="switched"))
    assert ENGLISH.note(note) == "stopped: another model takes over" and note.can_continue


def gaps(value: object) -> object:
    if isinstance(value, dict):
        return {key: gaps(part) for key, part in value.items()}
    return sorted(field for _, field, _, _ in Formatter().parse(str(value)) if field)


def test_both_languages_have_the_same_keys_and_gaps() -> None:
    english, chinese = (texts.texts_in(code).model_dump(exclude={"sentences"}) for code in texts.CODES)
    assert {key: gaps(value) for key, value in english.items()} == {key: gaps(value) for key, value in chinese.items()}
    same = {key for key, value in english.items() if chinese[key] == value}
    assert same == {"title"}


def test_translated_sentences_have_the_same_gaps() -> None:
    for said, here in texts.texts_in("zh").sentences.items():
        assert gaps(said) == gaps(here)


def refusals() -> Iterator[str]:
    """What the pages can be told, by those who tell it."""
    card = cards()["built-in"]
    with pytest.raises(OmniLMMError) as refused:
        open_picture(b"no picture")
    yield str(refused.value)
    with pytest.raises(OmniLMMError) as refused:
        open_picture(b"")
    yield str(refused.value)
    with pytest.raises(OmniLMMError) as refused:
        open_picture(Image.new("1", (20_000, 20_000)))
    yield str(refused.value)
    yield f"holiday.png: {refused.value}"
    bounds = Limits()
    yield from (bounds.too_slow(), bounds.too_much_memory(), bounds.too_many_pixels(), too_large(bounds.file_mb))
    with pytest.raises(OmniLMMError) as refused:
        Decoder("sys.exit(7)")
    yield str(refused.value)
    with pytest.raises(OmniLMMError) as refused:
        Conversation().with_message("user", " ").check_question()
    yield str(refused.value)
    with pytest.raises(OmniLMMError) as refused:
        Sampling(top_k=0)
    yield str(refused.value)
    for asked in ("?", "?" * 99_999):
        with pytest.raises(OmniLMMError) as refused:
            list(ContextWindow(lambda _: 9_999, len, card.context).fit(Conversation().with_message("user", asked), 10))
        yield str(refused.value)
    for data in (b"no json", b"{}", b'{"format": "other", "messages": []}'):
        with pytest.raises(OmniLMMError) as refused:
            read_conversation(data)
        yield str(refused.value)
    for known in cards().values():
        yield known.note
        if known.statement:
            yield known.statement
    for choice in (resolve_device("auto"), resolve_device("cpu"), resolve_dtype(), resolve_dtype("fp32")):
        yield choice.reason


def test_what_the_engine_says_is_told_in_the_visitors_language() -> None:
    chinese = texts.texts_in("zh")
    for sentence in refusals():
        told = chinese.translate(sentence)
        assert re.search("[\u4e00-\u9fff]", told), told
        assert "⟦" in sentence or texts.texts_in("en").translate(sentence) == sentence
    assert (
        chinese.translate("holiday.png: This picture file is empty (0 bytes).")
        == "holiday.png: 这个图片文件是空的（0 字节）。"
    )
    assert chinese.translate("nobody has translated this") == "nobody has translated this"


SMALL = HardwareError(
    "X in bf16 needs more than 17.1 GiB, 15.0 GiB are free on cpu: "
    f"try {way_out('dtype', 'int8')} (9.4 GiB) {way_out('or')} {way_out('model_in', 'minicpm-v-2', 'int4')} "
    f"{way_out('or')} {way_out('device', 'balanced')}. Nothing was fetched."
)


def test_the_way_out_of_an_error_is_what_its_door_has() -> None:
    """Flags in the terminal; on a page its choices, and models by their titles."""
    assert "try --dtype int8 (9.4 GiB) or --model minicpm-v-2 --dtype int4 or --device balanced. No" in str(SMALL)
    assert texts.texts_in("en").translate(SMALL) == (
        "X in bf16 needs more than 17.1 GiB, 15.0 GiB are free on cpu: try the dtype int8 (9.4 GiB) or the model "
        "MiniCPM-V 2.0 with the dtype int4 or the device balanced (whoever runs this page can choose it). "
        "Nothing was fetched."
    )
    assert texts.texts_in("zh").translate(SMALL) == (
        "X 用 bf16 需要 17.1 GiB 以上，cpu 上可用 15.0 GiB：请尝试数据类型 int8 (9.4 GiB) 或 "
        "模型 MiniCPM-V 2.0（数据类型 int4） 或 设备 balanced（由运行此页面的人选择）。没有下载任何内容。"
    )
    for code in texts.CODES:
        assert set(texts.texts_in(code).ways_out) == set(FLAGS)
    slow = OmniLMMError(f"a.png: {Limits().too_slow()}")
    assert str(slow).endswith("try again; OMNILMM_PICTURE_SECONDS (now 10) allows more.")
    assert "whoever runs this page can allow more: OMNILMM_PICTURE_SECONDS" in texts.texts_in("en").translate(slow)


def test_the_name_of_a_file_is_no_way_out() -> None:
    named = OmniLMMError("⟦nobody⟧ ⟦dtype⟧.png: This picture file is empty (0 bytes).")
    assert str(named) == texts.texts_in("en").translate(named) == named.message
    assert texts.texts_in("zh").translate(named).startswith("⟦nobody⟧ ⟦dtype⟧.png: 这个")


@pytest.mark.parametrize(
    "refused",
    [
        partial(resolve_dtype, "bf16", "cpu", "int4"),
        partial(resolve_device, "cuda:7"),
        partial(check_quantised, "X", {"quantization_config": {"quant_method": "who knows"}}),
        partial(fetch, "nobody/has-this", title="X", offline=True),
        partial(check_download, cards()["omnilmm-12b"], Choice("cpu", ""), Choice("bf16", "")),
    ],
)
def test_no_page_names_a_flag(refused: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 2**30)
    with pytest.raises(OmniLMMError) as error:
        refused()
    assert " --" in str(error.value), "as the terminal has it"
    for code in texts.CODES:
        told = texts.texts_in(code).translate(error.value)
        assert "--" not in told and "⟦" not in told
    assert re.search("[\u4e00-\u9fff]", told)


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
