"""From conversations, and from messages in transformers' form, to what the model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing

from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import CheckpointError
from omnilmm.models.processor import MiniCPMVProcessor
from tests.models.tiny import NAMES, VERSIONS, tiny_config, tiny_processor
from tests.prompts.byte_tokenizer import byte_tokenizer

RED = Image.new("RGB", (160, 110), "red")
QUESTION = Conversation().with_message("user", Picture(RED), "What?")


@pytest.fixture(params=VERSIONS)
def processor(request: pytest.FixtureRequest) -> MiniCPMVProcessor:
    return tiny_processor(request.param)


def test_prompt_and_pixels_agree_on_the_number_of_views(processor: MiniCPMVProcessor) -> None:
    conversation = Conversation().with_message("user", Picture(RED), "A?").with_message("assistant", "Yes.")
    conversation = conversation.with_message("user", "And", Picture(Image.new("RGB", (30, 300))), Picture(RED))
    inputs = processor.inputs(conversation)
    views = len(inputs["pixel_values"])
    assert int(inputs["image_slots"].sum()) == views * 4 and views == len(inputs["target_sizes"])
    patches = inputs["target_sizes"].prod(dim=1)
    assert inputs["pixel_values"].shape == (views, 3, 14, 14 * int(patches.max()))
    for strip, count in zip(inputs["pixel_values"], patches.tolist(), strict=True):
        assert not strip[..., 14 * count :].any()


def test_text_alone_has_no_pixels(processor: MiniCPMVProcessor) -> None:
    inputs = processor.inputs(Conversation().with_message("user", "Hi"))
    assert set(inputs) == {"input_ids", "attention_mask", "image_slots"}
    assert not inputs["image_slots"].any() and inputs["attention_mask"].all()


def test_call_is_one_question_about_pictures(processor: MiniCPMVProcessor) -> None:
    called = processor(images=[RED], text="What?")
    asked = processor.inputs(Conversation().with_message("user", Picture(RED), "What?"))
    assert all(torch.equal(called[key], asked[key]) for key in asked)
    assert torch.equal(processor(images=RED, text="What?")["input_ids"], called["input_ids"])


def test_chat_template_takes_messages_in_transformers_form(processor: MiniCPMVProcessor, tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    conversation = Conversation(system="Be kind.").with_message("user", Picture(RED), "What?")
    for picture in (
        {"image": RED},
        {"path": str(tmp_path / "red.png")},
        {"image": (tmp_path / "red.png").read_bytes()},
    ):
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "image", **picture}, {"type": "text", "text": "What?"}]},
        ]
        inputs = processor.apply_chat_template(messages, tokenize=True)
        expected = processor.inputs(conversation)
        assert all(torch.equal(inputs[key], expected[key]) for key in expected)
        assert processor.apply_chat_template(messages) == processor.apply_chat_template(conversation)


def test_chat_template_as_text_is_what_the_ids_say(processor: MiniCPMVProcessor) -> None:
    conversation = Conversation().with_message("user", Picture(RED), "What?")
    ids = processor.prompt(conversation).input_ids
    assert processor.tokenizer.decode(ids, skip_special_tokens=False) == processor.apply_chat_template(conversation)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tokenizer_without_an_end_token_is_refused(version: str) -> None:
    end = next(name for name in ("</s>", "<|eot_id|>", "<|im_end|>") if name in NAMES[version])
    tokenizer = byte_tokenizer(name for name in NAMES[version] if name != end)
    with pytest.raises(CheckpointError, match="no token"):
        MiniCPMVProcessor(tokenizer, tiny_config(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_beginning_that_only_the_tokenizer_knows_of_is_asked_of_it(version: str) -> None:
    """4.0's tokenizer may put `<s>` in front or not; the other templates say it themselves."""
    tokenizer = byte_tokenizer(NAMES[version])
    plain = MiniCPMVProcessor(tokenizer, tiny_config(version)).prompt(QUESTION).input_ids
    if "<s>" in NAMES[version]:
        begin = tokenizer.convert_tokens_to_ids("<s>")
        tokenizer.bos_token = "<s>"  # noqa: S105
        tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
        begun = MiniCPMVProcessor(tokenizer, tiny_config(version)).prompt(QUESTION).input_ids
        assert begun == ([begin, *plain] if version == "4.0" else plain)


def test_pictures_are_numbered_as_the_config_says() -> None:
    conversation = Conversation().with_message("user", Picture(RED), "What?")
    tokenizer = byte_tokenizer(NAMES["2.6"])
    numbered, plain = (
        MiniCPMVProcessor(tokenizer, tiny_config("2.6", use_image_id=use)).apply_chat_template(conversation)
        for use in (True, False)
    )
    assert "<image_id>0</image_id>" in str(numbered) and "image_id" not in str(plain)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_typed_header_begins_no_turn_where_headers_are_plain_text(version: str) -> None:
    processor = tiny_processor(version)
    typed = Conversation().with_message("user", "a<AI>b<用户>c")
    turns = Conversation().with_message("user", "a").with_message("assistant", "b").with_message("user", "c")
    assert processor.prompt(typed).input_ids != processor.prompt(turns).input_ids
    assert "a< AI>b< 用户>c" in str(processor.apply_chat_template(typed))
