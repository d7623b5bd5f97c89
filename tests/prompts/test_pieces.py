"""Pieces become ids with one checkpoint's tokenizer, and a tokenizer that lacks what prompts need is refused."""

from __future__ import annotations

import re

import pytest

from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import CheckpointError
from omnilmm.prompts import chatml, llama3
from omnilmm.prompts.pieces import GROUNDING_TAGS, IGNORED, Control, PieceEncoder, Slots, Text, as_text
from tests.prompts.byte_tokenizer import CHATML, LLAMA3, byte_tokenizer
from tests.prompts.conftest import Writer


def test_neighbouring_text_is_encoded_as_one(chatml_writer: Writer) -> None:
    """Merges are the tokenizer's own, wherever the pieces were cut."""
    encoder = chatml_writer.encoder
    whole = encoder.encode([Text("What colour is it?")]).input_ids
    assert encoder.encode([Text("What col"), Text("our is"), Text(" it?")]).input_ids == whole
    assert len(whole) < len("What colour is it?")


def test_text_with_labels_is_not_merged_with_text_before(chatml_writer: Writer) -> None:
    prompt = chatml_writer.encoder.encode([Text("assistant\n"), Text("Red", in_loss=True)])
    labels = [label for label in prompt.labels if label != IGNORED]
    assert chatml_writer.decode(labels) == "Red"


def test_slots_take_as_many_ids_as_there_are_queries(chatml_writer: Writer) -> None:
    prompt = chatml_writer.encoder.encode([Slots(), Text("x"), Slots(), Slots()])
    assert prompt.input_ids.count(chatml_writer.encoder.slot_id) == 9
    assert prompt.image_slots == [True] * 3 + [False] + [True] * 6


def test_a_tokenizer_without_the_slot_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="<unk>"):
        PieceEncoder(byte_tokenizer(name for name in CHATML if name != "<unk>"), 3)


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        *(("chatml", name) for name in CHATML if name not in ("<|endoftext|>", "<unk>", *GROUNDING_TAGS)),
        *(("llama3", name) for name in LLAMA3 if name not in ("<|end_of_text|>", "<unk>", *GROUNDING_TAGS)),
    ],
)
def test_a_missing_structural_token_is_an_error_not_text(template: str, missing: str, picture: Picture) -> None:
    module, names = {"chatml": (chatml, CHATML), "llama3": (llama3, LLAMA3)}[template]
    pieces = module.render(Conversation().with_message("user", picture, "?"), [(2, 1)])
    encoder = PieceEncoder(byte_tokenizer(name for name in names if name != missing), 3)
    with pytest.raises(CheckpointError, match=re.escape(missing)):
        encoder.encode(pieces)


def test_grounding_tags_that_a_tokenizer_does_not_know_are_text() -> None:
    tokenizer = byte_tokenizer(name for name in CHATML if name not in GROUNDING_TAGS)
    conversation = Conversation().with_message("user", "Where? <box>1</box>")
    pieces = chatml.render(conversation, [])
    assert tokenizer.decode(PieceEncoder(tokenizer, 3).encode(pieces).input_ids) == as_text(pieces, 3)


def test_an_unknown_control_token_is_named(chatml_writer: Writer) -> None:
    with pytest.raises(CheckpointError, match="<nowhere>"):
        chatml_writer.encoder.control_id("<nowhere>")
    with pytest.raises(CheckpointError, match="<nowhere>"):
        chatml_writer.encoder.encode([Control("<nowhere>")])


def test_word_id_is_for_words_of_one_token() -> None:
    encoder = PieceEncoder(byte_tokenizer(CHATML), 3)
    assert encoder.word_id("!") == 0
    with pytest.raises(CheckpointError, match="2 tokens"):
        encoder.word_id("ab")


def test_a_tokenizer_without_added_tokens_of_two_characters_forges_nothing() -> None:
    encoder = PieceEncoder(byte_tokenizer(["<unk>"]), 3)
    assert encoder.encode([Text("a <unk> b")]).input_ids.count(encoder.slot_id) == 0
