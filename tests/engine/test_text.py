"""Streamed text only grows, shows no half characters, and joined it is the text of all ids."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from omnilmm.catalog import ROOT
from omnilmm.engine.text import TextStream
from tests.prompts.byte_tokenizer import CHATML, byte_tokenizer

TOKENIZERS = {
    "bytes": byte_tokenizer(CHATML),
    "built-in": PreTrainedTokenizerFast.from_pretrained(ROOT / "assets" / "built-in"),
}
HALF = "\N{REPLACEMENT CHARACTER}"
SAMPLES = [
    "图中有一只猫。",
    "고양이가 보입니다",
    "🙂👩‍👩‍👧‍👦🇩🇪",
    "naïve café",
    "e\u0301",
    "a\n\n b\t!",
    "مرحبا",
    "\U0001f469\u200d🔬!",
]
texts = st.one_of(
    st.sampled_from(SAMPLES),
    st.text(max_size=30),
    st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=10),
    st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=10),
    st.text(alphabet=st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF), max_size=10),
)
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""


def streamed(tokenizer: Any, ids: list[int]) -> list[str]:
    """All deltas, the last one from `finish`."""
    stream = TextStream(tokenizer)
    deltas = [stream.add(token) for token in ids] + [stream.finish()]
    assert stream.text == "".join(deltas) and stream.ids == ids
    return deltas


@every_tokenizer
@given(text=texts)
@example(text="🙂")
@example(text=f"a{HALF}b{HALF}")
@example(text="")
def test_joined_deltas_are_the_text(name: str, text: str) -> None:
    deltas = streamed(TOKENIZERS[name], ids_of(TOKENIZERS[name], text))
    assert "".join(deltas) == text


@every_tokenizer
@given(text=texts.filter(lambda text: HALF not in text))
def test_no_delta_holds_half_a_character(name: str, text: str) -> None:
    deltas = streamed(TOKENIZERS[name], ids_of(TOKENIZERS[name], text))
    assert not any(HALF in delta for delta in deltas)
    assert deltas[-1] == ""  # whole text needs no finish


@every_tokenizer
@given(data=st.data())
def test_any_ids_give_the_text_of_all_of_them(name: str, data: st.DataObject) -> None:
    """Most such ids are no valid text at all: bytes cut off, bytes that begin nothing, special tokens in between."""
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=25))
    stream = TextStream(tokenizer)
    whole = decoded(tokenizer, ids)
    for token in ids:
        stream.add(token)
        assert whole.startswith(stream.text)  # nothing shown is ever taken back
    stream.finish()
    assert stream.text == whole


@every_tokenizer
@given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_ids_may_come_several_at_once(name: str, text: str, cuts: list[int]) -> None:
    tokenizer = TOKENIZERS[name]
    ids = ids_of(tokenizer, text)
    places = [0, *sorted(cuts), len(ids)]
    stream = TextStream(tokenizer)
    joined = "".join(stream.add(*ids[start:end]) for start, end in pairwise(places) if start < end)
    assert joined + stream.finish() == text


def test_a_tokenizer_that_writes_spaces_before_words_loses_none() -> None:
    """Its decoder drops the first space of whatever it is given, so a token cannot be decoded on its own."""
    words = Tokenizer(models.WordLevel({"▁a": 0, "▁red": 1, "▁": 2, "circle": 3, "▁.": 4}, unk_token="▁"))
    words.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    assert streamed(tokenizer, [0, 1, 2, 3, 4]) == ["a", " red", " ", "circle", " .", ""]


def test_a_character_of_four_tokens_appears_when_it_is_whole() -> None:
    tokenizer = TOKENIZERS["bytes"]
    stream = TextStream(tokenizer)
    assert [stream.add(token) for token in ids_of(tokenizer, "🙂!")] == ["", "", "", "🙂", "!"]


def test_broken_bytes_are_shown_once_it_is_certain_that_they_are() -> None:
    tokenizer = TOKENIZERS["bytes"]
    first_byte, letter = ids_of(tokenizer, "🙂")[0], ids_of(tokenizer, "a")[0]
    assert streamed(tokenizer, [letter, first_byte, letter, first_byte]) == ["a", "", f"{HALF}a", "", HALF]


def test_special_tokens_and_spaces_are_kept_as_they_are() -> None:
    tokenizer = TOKENIZERS["bytes"]
    ids = [*ids_of(tokenizer, "a "), tokenizer.convert_tokens_to_ids("<box>"), *ids_of(tokenizer, " . b")]
    assert "".join(streamed(tokenizer, ids)) == "a <box> . b"
