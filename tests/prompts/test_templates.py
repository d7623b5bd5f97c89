"""Prompts are written token by token as published, with pictures in any turn."""

from __future__ import annotations

import pytest

from omnilmm.conversation import Conversation, Picture
from omnilmm.prompts import chatml, minicpm, minicpm4, qwen3
from omnilmm.prompts.pieces import IGNORED, PieceEncoder, Text, as_text
from tests.prompts.byte_tokenizer import MINICPM, byte_tokenizer
from tests.prompts.conftest import QUERIES, Writer

VIEW = "<image><unk><unk><unk></image>"
SLICE = "<slice><unk><unk><unk></slice>"


def test_chatml_question(chatml_writer: Writer) -> None:
    assert chatml_writer.text(Conversation().with_message("user", "Hi")) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_conversation_with_system_prompt(chatml_writer: Writer) -> None:
    conversation = Conversation(system="Be terse.").with_message("user", "Hi").with_message("assistant", "Yes.")
    assert chatml_writer.text(conversation.with_message("user", "Why?")) == (
        "<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_numbers_the_pictures_of_all_turns(chatml_writer: Writer, picture: Picture) -> None:
    conversation = Conversation().with_message("user", picture, "A?").with_message("assistant", "Yes.")
    text = chatml_writer.text(conversation.with_message("user", "And", picture, picture), [None, (2, 1), None])
    assert f"user\n<image_id>0</image_id>{VIEW}\nA?<|im_end|>" in text
    assert f"user\nAnd\n<image_id>1</image_id>{VIEW}{SLICE}{SLICE}\n<image_id>2</image_id>{VIEW}<|im_end|>" in text


def test_chatml_wraps_every_slice_and_breaks_lines_between_rows(chatml_writer: Writer, picture: Picture) -> None:
    text = chatml_writer.text(Conversation().with_message("user", picture, "?"), [(3, 2)])
    assert f"<image_id>0</image_id>{VIEW}{SLICE * 3}\n{SLICE * 3}\n?" in text


def test_chatml_without_image_ids(picture: Picture) -> None:
    pieces = chatml.render(Conversation().with_message("user", picture, "?"), [None], image_ids=False)
    assert "image_id" not in as_text(pieces, 3)


def test_llama3_question(llama3_writer: Writer) -> None:
    assert llama3_writer.text(Conversation().with_message("user", "Hi")) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_llama3_has_no_system_turn_unless_asked(llama3_writer: Writer) -> None:
    conversation = Conversation(system=" Be terse. ").with_message("user", "Hi")
    assert llama3_writer.text(conversation).startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe terse.<|eot_id|><|start_header_id|>user"
    )


def test_llama3_wraps_the_whole_grid(llama3_writer: Writer, picture: Picture) -> None:
    text = llama3_writer.text(Conversation().with_message("user", picture, picture, "?"), [(2, 2), None])
    assert f"\n\n{VIEW}<slice>{VIEW}{VIEW}\n{VIEW}{VIEW}</slice>\n{VIEW}\n?<|eot_id|>" in text


@pytest.mark.parametrize("parts", [("",), (" \n\t",), ("", " ", ""), ("  a  ",)])
def test_llama3_trims_the_content_of_a_message(llama3_writer: Writer, parts: tuple[str, ...]) -> None:
    text = llama3_writer.text(Conversation().with_message("user", *parts))
    content = "\n".join(parts).strip()
    assert f"<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>" in text


def test_llama3_trims_around_pictures_but_not_between(llama3_writer: Writer, picture: Picture) -> None:
    text = llama3_writer.text(Conversation().with_message("user", "  a  ", picture, "  b  "))
    assert f"\n\na  \n{VIEW}\n  b<|eot_id|>" in text


def test_exactly_one_begin_of_text(llama3_writer: Writer) -> None:
    conversation = Conversation(system="Be terse.").with_message("user", "Hi").with_message("assistant", "Yes.")
    prompt = llama3_writer.prompt(conversation.with_message("user", "Why?"))
    assert prompt.input_ids.count(llama3_writer.encoder.added["<|begin_of_text|>"]) == 1


@pytest.mark.parametrize("parts", [("",), (" ",), ("\n",), ("", "")])
def test_empty_words_are_written_and_come_back(writer: Writer, picture: Picture, parts: tuple[str, ...]) -> None:
    conversation = Conversation().with_message("user", picture, *parts)
    prompt = writer.prompt(conversation)
    assert writer.decode(prompt.input_ids) == writer.text(conversation)
    assert sum(prompt.image_slots) == 3


@pytest.mark.parametrize("words", ["What is it?", "图中有什么？ 🙂", "무엇이 보이나요?", "a  b\t\n\nc", "! !! !"])
def test_ids_decode_to_the_prompt_string(writer: Writer, picture: Picture, words: str) -> None:
    conversation = Conversation(system=words).with_message("user", words, picture, words)
    conversation = conversation.with_message("assistant", words).with_message("user", picture, words)
    grids = [(2, 2), None]
    prompt = writer.prompt(conversation, grids)
    assert writer.decode(prompt.input_ids) == writer.text(conversation, grids)
    assert sum(prompt.image_slots) == (1 + 4 + 1) * 3


def test_slots_lie_where_the_views_are(writer: Writer, picture: Picture) -> None:
    prompt = writer.prompt(Conversation().with_message("user", picture, "?"), [(2, 1)])
    starts = [
        place for place in range(1, len(prompt)) if prompt.image_slots[place] and not prompt.image_slots[place - 1]
    ]
    opening = {writer.encoder.added[name] for name in ("<image>", "<slice>")}
    assert len(starts) == 3 and all(prompt.input_ids[place - 1] in opening for place in starts)
    assert len(prompt.input_ids) == len(prompt.image_slots) == len(prompt.labels) == len(prompt)


def test_exactly_the_answers_and_their_end_have_labels(writer: Writer, picture: Picture) -> None:
    conversation = Conversation(system="Be kind.").with_message("user", picture, "A?")
    conversation = conversation.with_message("assistant", "It is red.").with_message("user", "B?")
    conversation = conversation.with_message("assistant", "蓝色 🙂")
    prompt = writer.prompt(conversation)
    labels = [label for label in prompt.labels if label != IGNORED]
    end = writer.template.END
    assert writer.decode(labels) == f"It is red.{end}蓝色 🙂{end}"
    assert not any(slot and label != IGNORED for slot, label in zip(prompt.image_slots, prompt.labels, strict=True))


def test_the_end_of_an_answer_that_the_prompt_leaves_out_is_the_label_where_the_next_turn_begins() -> None:
    """1.0 and 2.0, as in the published code: `</s>` is the label at the next header, whose id the prompt keeps."""
    encoder = PieceEncoder(byte_tokenizer(MINICPM), QUERIES)
    asked = Conversation().with_message("user", "A?").with_message("assistant", "<ref>Red</ref>")
    talk = asked.with_message("user", "B?").with_message("assistant", "Blue.")
    for conversation in (talk, talk.without_last(2)):
        prompt = encoder.encode(minicpm.render(conversation, []))
        labels = [label for label in prompt.labels if label != IGNORED]
        said = "<ref>Red</ref></s>" + "Blue.</s>" * (conversation is talk)
        assert encoder.tokenizer.decode(labels) == said
        pairs = list(zip(prompt.input_ids, prompt.labels, strict=True))
        header = encoder.encode([Text("<用户>")]).input_ids[0]
        others = [(token, label) for token, label in pairs if label not in (IGNORED, token)]
        assert others == [(header, encoder.added["</s>"])] * (conversation is talk)
    chat = encoder.encode(minicpm.render(talk.with_message("user", "C?"), []), with_labels=False).input_ids
    assert chat[: len(prompt)] != prompt.input_ids and chat[: len(prompt) - 1] == prompt.input_ids[:-1]


def test_training_ends_with_the_answer_and_chat_where_the_answer_begins(writer: Writer) -> None:
    asked = Conversation().with_message("user", "A?")
    chat = writer.prompt(asked).input_ids
    trained = writer.prompt(asked.with_message("assistant", "Red."))
    assert trained.input_ids[: len(chat)] == chat
    assert set(trained.labels[: len(chat)]) == {IGNORED} and trained.labels[len(chat)] == trained.input_ids[len(chat)]


def test_a_prompt_goes_on_from_the_one_before(writer: Writer, picture: Picture) -> None:
    """What a cache of the last turn is worth: the next prompt begins with it, answer included."""
    asked = Conversation().with_message("user", picture, "A?")
    answered = asked.with_message("assistant", "Red.")
    first = writer.prompt(answered).input_ids
    second = writer.prompt(answered.with_message("user", "B?")).input_ids
    assert second[: len(first)] == first


def test_minicpm4_has_no_system_line_unless_asked(picture: Picture) -> None:
    conversation = Conversation().with_message("user", picture, "A?").with_message("assistant", "Yes.")
    pieces = minicpm4.render(conversation.with_message("user", "Why?"), [(2, 1)])
    assert as_text(pieces, 3) == (
        f"<|im_start|>user\n<image_id>0</image_id>{VIEW}{SLICE}{SLICE}\nA?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    terse = minicpm4.render(Conversation(system="Be terse.").with_message("user", "Hi"), [])
    assert as_text(terse, 3).startswith("<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\nHi")


def test_qwen3_thinks_nothing_and_forgets_earlier_thoughts() -> None:
    thought = "<think>\nHm.\n</think>\n\nYes."
    conversation = Conversation().with_message("user", "A?").with_message("assistant", thought)
    nothing = "<think>\n\n</think>\n\n"
    before = "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\n"
    asked = qwen3.render(conversation.with_message("user", "Why?"), [])
    assert as_text(asked, 3) == (
        f"{before}Yes.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n{nothing}"
    )
    assert as_text(qwen3.render(conversation, []), 3) == f"{before}{nothing}Yes.<|im_end|>\n"
