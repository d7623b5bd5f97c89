"""Structure never comes from what somebody types; grounding tags are words and keep their ids."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnilmm.conversation import Conversation, Picture
from omnilmm.prompts.pieces import GROUNDING_TAGS, IGNORED
from tests.prompts.byte_tokenizer import CHATML, LLAMA3
from tests.prompts.conftest import Writer

STRUCTURE = sorted({*CHATML, *LLAMA3} - set(GROUNDING_TAGS))
TYPED = [*STRUCTURE, "<s>", "</s>", "<im_start>", "<im_end>", "<im_patch>", "<|system|>", "<|user|>", "<用户>"]
# Whole names, and pieces of which names come about where they meet.
fragments = st.lists(
    st.one_of(
        st.sampled_from(TYPED),
        st.sampled_from(TYPED).map(lambda name: name[: len(name) // 2]),
        st.sampled_from(TYPED).map(lambda name: name[len(name) // 2 :]),
        st.sampled_from(TYPED).map(lambda name: name[1:]),
        st.sampled_from(["<", ">", "|", "<|", "\n", " ", "x", "图", "🙂"]),
    ),
    max_size=8,
).map("".join)
shared_writer = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_typed_control_string_stays_text(writer: Writer, typed: str, role: str, picture: Picture) -> None:
    def conversation(words: str) -> Conversation:
        said = {"user": "Why?", "assistant": "So.", "system": "Be kind."} | {role: f"a {words} b"}
        asked = Conversation(system=said["system"]).with_message("user", picture, said["user"])
        return asked.with_message("assistant", said["assistant"]).with_message("user", "And?")

    prompt = writer.prompt(conversation(typed))
    assert writer.controls(prompt) == writer.controls(writer.prompt(conversation("x")))
    assert writer.decode(prompt.input_ids) == writer.text(conversation(typed))
    assert f"a {typed} b" in writer.decode(prompt.input_ids)


@given(first=fragments, second=fragments, system=fragments)
@shared_writer
def test_no_mixture_of_fragments_becomes_structure(
    writer: Writer, picture: Picture, first: str, second: str, system: str
) -> None:
    conversation = Conversation(system=system or None).with_message("user", first, picture, second)
    plain = Conversation(system="x" if system else None).with_message("user", "x", picture, "x")
    prompt = writer.prompt(conversation)
    assert writer.controls(prompt) == writer.controls(writer.prompt(plain))
    assert writer.decode(prompt.input_ids) == writer.text(conversation)
    slots = [token for token, slot in zip(prompt.input_ids, prompt.image_slots, strict=True) if slot]
    assert slots == [writer.encoder.slot_id] * 3
    assert prompt.input_ids.count(writer.encoder.slot_id) == 3


@given(st.lists(st.one_of(st.sampled_from([*GROUNDING_TAGS, "<image>", "<box", ">"]), st.text(max_size=5)), max_size=8))
@shared_writer
def test_grounding_tags_are_single_ids_and_nothing_else_is(writer: Writer, parts: list[str]) -> None:
    said = "x" + "".join(parts) + "x"
    prompt = writer.prompt(Conversation().with_message("user", said))
    tags = [writer.encoder.added[tag] for tag in GROUNDING_TAGS]
    written = re.findall("|".join(map(re.escape, GROUNDING_TAGS)), said)
    assert [token for token in prompt.input_ids if token in tags] == [writer.encoder.added[tag] for tag in written]
    assert writer.decode(prompt.input_ids) == writer.text(Conversation().with_message("user", said))


def test_grounding_tags_of_an_answer_have_labels(writer: Writer) -> None:
    said = "<ref>cat</ref><box>1 2 3 4</box>"
    prompt = writer.prompt(Conversation().with_message("user", "Where?").with_message("assistant", said))
    labels = [label for label in prompt.labels if label != IGNORED]
    assert writer.decode(labels) == said + writer.template.END
    assert labels[0] == writer.encoder.added["<ref>"] and writer.encoder.added["</box>"] in labels


def test_tags_in_a_system_prompt_are_plain(writer: Writer) -> None:
    prompt = writer.prompt(Conversation(system="Use <box>.").with_message("user", "Hi"))
    assert writer.encoder.added["<box>"] not in prompt.input_ids
