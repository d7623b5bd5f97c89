"""Any chat template: what it takes is found out, what people type stays words, and what cannot work is said."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from PIL import Image
from transformers import AddedToken, CLIPImageProcessorPil, LlavaProcessor

from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import CheckpointError
from omnilmm.prompts.chat_template import SPOKEN_TOKENS, ChatTemplate
from tests.models.tiny_library import TEMPLATE, tokenizer

PICTURE = Picture(Image.new("RGB", (30, 20), "red"))
CONVERSATION = (
    Conversation(system="Be short.")
    .with_message("user", PICTURE, "What?", "Say it.")
    .with_message("assistant", "Red.")
    .with_message("user", PICTURE, PICTURE, "And?")
)
WORDS = Conversation(system="Be short.").with_message("user", "Hello")
PLACE = "<|image_pad|>"
STRINGS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
PRINTS = STRINGS.replace(
    "m['role'] + ': ' + m['content'] + '<|im_end|>'", "m['role'] ~ ': ' ~ m['content'] ~ '<|im_end|>'"
)
# As SmolVLM's: everybody's content is walked through.
ALL_LISTS = (
    "{% for m in messages %}{{ m.role + ': ' }}{% for p in m.content %}"
    "{{ '<|image_pad|>' if p.type == 'image' else p.text }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
# As Llama 3.2 Vision's older ones: only the user's content is a list.
USER_LISTS = (
    "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'user' %}{% for p in m.content %}"
    "{{ '<|image_pad|>' if p.type == 'image' else p.text }}{% endfor %}{% else %}{{ m.content + '' }}{% endif %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + USER_LISTS
IGNORES_SYSTEM = USER_LISTS.replace("in messages %}", "in messages if m.role != 'system' %}")
NO_PICTURES = USER_LISTS.replace("'<|image_pad|>'", "''")
LISTS = TEMPLATE.replace("PICTURE", repr(PLACE))


def processor(template: Any = LISTS) -> Any:
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28)
    return LlavaProcessor(
        pictures,
        tokenizer(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (
            LISTS,
            f"<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\n{PLACE}What?\nSay it.<|im_end|>\n"
            f"<|im_start|>assistant\nRed.<|im_end|>\n<|im_start|>user\n{PLACE}{PLACE}And?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        (
            STRINGS,
            f"system: Be short.<|im_end|>user: {PLACE}\nWhat?\nSay it.<|im_end|>assistant: Red.<|im_end|>"
            f"user: {PLACE}\n{PLACE}\nAnd?<|im_end|>assistant:",
        ),
        (
            PRINTS,
            f"system: Be short.<|im_end|>user: {PLACE}\nWhat?\nSay it.<|im_end|>assistant: Red.<|im_end|>"
            f"user: {PLACE}\n{PLACE}\nAnd?<|im_end|>assistant:",
        ),
        (
            ALL_LISTS,
            f"system: Be short.<|im_end|>user: {PLACE}What?\nSay it.<|im_end|>assistant: Red.<|im_end|>"
            f"user: {PLACE}{PLACE}And?<|im_end|>assistant:",
        ),
        (
            USER_LISTS,
            f"system: Be short.<|im_end|>user: {PLACE}What?\nSay it.<|im_end|>assistant: Red.<|im_end|>"
            f"user: {PLACE}{PLACE}And?<|im_end|>assistant:",
        ),
        (
            REFUSES_SYSTEM,
            f"user: Be short.\n{PLACE}What?\nSay it.<|im_end|>assistant: Red.<|im_end|>"
            f"user: {PLACE}{PLACE}And?<|im_end|>assistant:",
        ),
        (
            IGNORES_SYSTEM,
            f"user: Be short.\n{PLACE}What?\nSay it.<|im_end|>assistant: Red.<|im_end|>"
            f"user: {PLACE}{PLACE}And?<|im_end|>assistant:",
        ),
    ],
    ids=["lists or strings", "strings", "prints", "lists", "user lists", "refuses system", "ignores system"],
)
def test_every_form_of_template_gets_what_it_takes(template: str, prompt: str) -> None:
    found = ChatTemplate(processor(template))
    assert found.render(CONVERSATION) == prompt
    inputs = found.inputs(CONVERSATION)
    assert inputs["pixel_values"].shape[0] == 3  # and every one has its four places
    expected = found.processor.tokenizer(prompt.replace(PLACE, PLACE * 4), add_special_tokens=False)["input_ids"]
    assert inputs["input_ids"].tolist() == [expected]


def test_systems_words_are_a_paragraph_of_their_own_where_the_user_says_them() -> None:
    assert ChatTemplate(processor(REFUSES_SYSTEM)).render(WORDS) == "user: Be short.\n\nHello<|im_end|>assistant:"


def test_a_template_may_come_from_the_tokenizer_or_be_the_default_of_several() -> None:
    alone = processor(None)
    alone.tokenizer.chat_template = STRINGS
    several = processor({"default": STRINGS, "tools": LISTS})
    for given in (alone, several):
        assert ChatTemplate(given).render(WORDS) == "system: Be short.<|im_end|>user: Hello<|im_end|>assistant:"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template"),
        ({"tools": LISTS}, "no chat template"),
        (NO_PICTURES, "cannot render a conversation with a picture"),
        ("{{ messages[0].nothing.at.all }}", "LlavaProcessor.*cannot render"),
        ("always the same", "cannot render"),
    ],
    ids=["none", "none by default", "no pictures", "broken", "deaf"],
)
def test_what_cannot_hold_a_conversation_is_refused(template: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        ChatTemplate(processor(template))


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
@pytest.mark.parametrize(
    ("typed", "encoded"),
    [
        ("<|im_end|>", "< |im_end|>"),
        ("a<|im_start|><|im_end|>b", "a< |im_start|>< |im_end|>b"),
        ("<<|im_end|>", "<< |im_end|>"),
        (PLACE, "< |image_pad|>"),
        ("<box>1</box> <|box_start|>", "<box>1</box> <|box_start|>"),
        ("a < b | c > d\n\n<b>", "a < b | c > d\n\n<b>"),
    ],
)
def test_typed_control_tokens_are_broken_and_nothing_else_is(role: str, typed: str, encoded: str) -> None:
    assert ChatTemplate(processor()).plain(typed, role) == encoded


def test_an_answers_thoughts_are_found_by_the_template_but_nobody_else_can_end_them() -> None:
    found = ChatTemplate(processor())
    talk = Conversation().with_message("user", "a</think>b").with_message("assistant", "<think>c</think>d")
    assert found.render(talk.with_message("user", "e")) == (
        "<|im_start|>user\na< /think>b<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n"
        "<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tokens_that_are_ordinary_text_are_left_alone() -> None:
    """Gemma's vocabulary has line breaks as tokens of their own."""
    given = processor()
    given.tokenizer = copy.deepcopy(given.tokenizer)
    given.tokenizer.add_special_tokens(
        {"extra_special_tokens": ["\n", "\n\n", "!"]}, replace_extra_special_tokens=False
    )
    assert ChatTemplate(given).plain("Hi!\n\nYou", "user") == "Hi!\n\nYou"


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_a_placeholder_that_is_no_special_token_cannot_be_typed_either(kind: str) -> None:
    given = processor()
    setattr(given, f"{kind}_token", "<the place>")
    assert ChatTemplate(given).plain("a <the place>", "assistant") == "a < the place>"


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_grounding_tags_are_words_even_where_the_tokenizer_and_the_template_know_them(role: str) -> None:
    """Special tokens in some checkpoints, and written by the template in others."""
    given = processor(LISTS + "{# " + " ".join(sorted(SPOKEN_TOKENS)) + " #}")
    given.tokenizer = copy.deepcopy(given.tokenizer)
    said = " ".join(sorted(SPOKEN_TOKENS))
    for is_special in (False, True):
        added = [AddedToken(token, special=is_special) for token in sorted(SPOKEN_TOKENS)]
        given.tokenizer.add_tokens(added, special_tokens=is_special)
        assert ChatTemplate(given).plain(said, role) == said
