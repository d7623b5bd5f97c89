"""The lines about the model say what a person wants to know before trusting it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from string import Formatter

import pytest
from PIL import Image

from omnilmm.archive import read_conversation
from omnilmm.catalog import ModelCard, cards
from omnilmm.conversation import Conversation
from omnilmm.engine import load_errors
from omnilmm.engine.context import ContextWindow
from omnilmm.engine.events import Progress
from omnilmm.engine.fetching import fetch
from omnilmm.engine.loading import prepare
from omnilmm.engine.options import Sampling, options_for
from omnilmm.engine.placement import device_memory
from omnilmm.engine.placement.fit import check_download
from omnilmm.errors import HardwareError, OmniLMMError
from omnilmm.hardware import AS_ASKED, Choice, resolve_device, resolve_dtype, use_device, use_dtype
from omnilmm.images.decoder_pool import Decoder
from omnilmm.images.limits import Limits
from omnilmm.images.pixels import open_picture
from omnilmm.models.library import check_quantised
from omnilmm.sentences import Sentence
from omnilmm.ui import texts
from omnilmm.ui.note import Note
from omnilmm.ui.texts import ENGLISH
from omnilmm.ui.upload import open_upload
from tests.ui.scripted import ScriptedEngine, finished


def test_the_model_line_says_what_it_really_takes() -> None:
    line = ENGLISH.model_line(ScriptedEngine())
    assert "cpu (it is a test), fp32 (it is a test), 3.0 GiB of memory" in line


def test_a_quantised_model_says_what_that_costs() -> None:
    engine = ScriptedEngine()
    engine.dtype, engine.memory_bytes = Choice("int4", AS_ASKED), 7 * 2**20
    assert "int4 (as requested; saves memory, may be slower), 7 MiB of memory" in ENGLISH.model_line(engine)


def test_licence_and_the_makers_statement_are_shown_with_every_model() -> None:
    for card in cards().values():
        about = ENGLISH.about(card)
        assert card.note.en in about and card.statement.en in about
        assert card.licence in about and card.licence_url in about


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
    english, chinese = (texts.texts_in(code).model_dump() for code in texts.CODES)
    assert {key: gaps(value) for key, value in english.items()} == {key: gaps(value) for key, value in chinese.items()}
    same = {key for key, value in english.items() if chinese[key] == value}
    assert same == {"title"}


def refusals() -> Iterator[OmniLMMError]:
    """What the pages can be told, by those who tell it."""
    card = cards()["built-in"]

    def ask(conversation: Conversation) -> object:
        return list(ContextWindow(lambda _: 9_999, len, card.context).fit(conversation, 10))

    attempts: list[Callable[[], object]] = [
        partial(open_picture, b"no picture"),
        partial(open_picture, b""),
        partial(open_picture, b"\0\0\0\x20ftypisom"),
        partial(open_picture, Image.new("1", (20_000, 20_000))),
        partial(open_upload, "holiday.png", b""),
        partial(Decoder, "sys.exit(7)"),
        Conversation().with_message("user", " ").check_question,
        partial(Sampling, top_k=0, temperature=3),
        partial(options_for, card, "sampling", beams=2),
        *(partial(ask, Conversation().with_message("user", asked)) for asked in ("?", "?" * 99_999)),
        *(partial(read_conversation, data) for data in (b"no json", b"{}", b'{"format": "other", "messages": []}')),
    ]
    for attempt in attempts:
        with pytest.raises(OmniLMMError) as refused:
            attempt()
        yield refused.value


def test_what_the_engine_says_is_translated_for_the_visitor() -> None:
    bounds = Limits()
    said: list[Sentence | OmniLMMError] = [*refusals(), bounds.too_slow(), bounds.too_much_memory()]
    choices = (resolve_device("auto"), resolve_device("cpu"), resolve_dtype(), resolve_dtype("fp32"))
    for sentence in [*said, *(choice.reason for choice in choices)]:
        translated = texts.texts_in("zh").translate(sentence)
        assert re.search("[\u4e00-\u9fff]", translated), translated
        english = texts.texts_in("en").translate(sentence)
        assert english == str(sentence) or "whoever runs this page" in english
    with pytest.raises(OmniLMMError) as refused:
        open_upload("holiday.png", b"")
    assert texts.texts_in("zh").translate(refused.value) == "holiday.png：这个图片文件是空的（0 字节）。"
    assert texts.texts_in("zh").translate(OSError("nobody's words")) == "nobody's words"


def test_what_is_known_of_a_model_is_translated_for_the_visitor(tmp_path: Path) -> None:
    for card in cards().values():
        about = texts.texts_in("zh").about(card)
        assert card.note.zh in about and card.statement.zh in about
        for words in (card.note, card.statement):
            assert bool(words.en) == bool(words.zh) == bool(re.search("[\u4e00-\u9fff]", words.zh))
    own = ModelCard.model_validate(cards()["built-in"].model_dump() | {"note": "Mine."})
    assert "Mine." in texts.texts_in("zh").about(own) and "Mine." in ENGLISH.about(own)


FOLDERS: dict[str, dict[str, str]] = {
    "empty": {},
    "no JSON": {"config.json": "{"},
    "no weights": {"config.json": '{"model_type": "minicpmv", "version": "2.6"}'},
    "text alone": {"config.json": '{"model_type": "qwen2"}', "model.safetensors": ""},
    "weights cut off": {"config.json": '{"model_type": "minicpmv", "version": "2.6"}', "model.safetensors": "cut"},
    "no architecture": {"config.json": '{"model_type": "brand_new"}', "model.safetensors": ""},
    "GGUF": {"model.gguf": ""},
}


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_why_a_model_cannot_be_loaded_is_translated_for_the_visitor(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(OmniLMMError) as refused:
        prepare(str(tmp_path), device="cpu")
    line = texts.texts_in("zh").translate(refused.value).replace(str(refused.value.__cause__), "")  # a library's words
    words = re.sub(r"[/\w.-]*/[\w.-]+|\(.*?\)|（.*?）", "", line)
    assert re.search("[\u4e00-\u9fff]", words) and not re.search("[a-z]+ [a-z]+ [a-z]+", words), words


def test_whatever_goes_wrong_in_loading_is_translated_for_the_visitor(tmp_path: Path) -> None:
    """The commonest errors: of the library below, in its words within ours."""
    card = cards()["minicpm-v-2.6"]
    with pytest.raises(OmniLMMError) as refused, load_errors.explained(card, tmp_path):
        raise OSError("Unable to open file")
    line = texts.texts_in("zh").starting_line(card, Progress("loading"), refused.value)
    assert line.startswith(f"无法加载 {card.title}：无法从 {tmp_path} 加载模型")
    assert line.endswith("：Unable to open file. 请检查文件是否完整，或重新下载。")
    with pytest.raises(OmniLMMError) as refused, load_errors.explained(card, tmp_path):
        raise MemoryError
    assert "加载 MiniCPM-V 2.6 时设备内存不足" in texts.texts_in("zh").translate(refused.value)


SMALL = HardwareError(
    "download_does_not_fit",
    title="X",
    dtype="bf16",
    needed="17.1 GiB",
    free="15.0 GiB",
    device="cpu",
    ways=[
        Sentence("way_of_size", way=use_dtype("int8"), size="9.4 GiB"),
        Sentence("use_model_in", model="minicpm-v-2", title="MiniCPM-V 2.0", dtype="int4"),
        use_device("balanced"),
    ],
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
        "X 用 bf16 需要 17.1 GiB 以上，cpu 上可用 15.0 GiB：请尝试数据类型 int8（9.4 GiB），或"
        "模型 MiniCPM-V 2.0（数据类型 int4），或设备 balanced（由运行此页面的人选择）。没有下载任何内容。"
    )
    slow = OmniLMMError("of_file", name="a.png", reason=Limits().too_slow())
    assert str(slow).endswith("try again; OMNILMM_PICTURE_SECONDS (now 10) allows more.")
    assert "whoever runs this page can allow more: OMNILMM_PICTURE_SECONDS" in texts.texts_in("en").translate(slow)


@pytest.mark.parametrize(
    "refused",
    [
        partial(resolve_dtype, "bf16", "cpu", "int4"),
        partial(resolve_device, "cuda:7"),
        partial(check_quantised, "X", {"quantization_config": {"quant_method": "who knows"}}),
        partial(fetch, "nobody/has-this", title="X", offline=True),
        partial(check_download, cards()["omnilmm-12b"], Choice("cpu", AS_ASKED), Choice("bf16", AS_ASKED)),
    ],
)
def test_no_page_names_a_flag(refused: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 2**30)
    with pytest.raises(OmniLMMError) as error:
        refused()
    assert " --" in str(error.value), "as the terminal has it"
    for code in texts.CODES:
        translated = texts.texts_in(code).translate(error.value)
        assert "--" not in translated
    assert re.search("[\u4e00-\u9fff]", translated)


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
