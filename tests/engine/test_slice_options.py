"""Into how many slices a picture is cut, and how finely it is seen, can be chosen for each answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from omnilmm.catalog import cards
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Finished
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Options, Sampling, options_for
from omnilmm.errors import OptionsError
from omnilmm.hardware import Choice
from omnilmm.model_lookup import find
from omnilmm.models.library import load_processor
from omnilmm.models.processor import MiniCPMVProcessor
from tests.engine.conftest import CARD
from tests.models.tiny import NAMES, SLICING, save_tiny, tiny_config, tiny_model
from tests.models.tiny_library import save_library_model
from tests.prompts.byte_tokenizer import byte_tokenizer

CPU, FP32 = Choice("cpu", "test"), Choice("fp32", "test")
WIDE = Picture(Image.radial_gradient("L").resize((400, 130)).convert("RGB"))
QUESTION = Conversation().with_message("user", WIDE, "What is it?")
KEPT: dict[str, int] = {"feature_bytes": 2**28, "prefix_bytes": 2**28}
FORGOTTEN: dict[str, int] = {"feature_bytes": 0, "prefix_bytes": 0}


def ours(version: str, most: int = 4, **how: int) -> LocalEngine:
    rules = SLICING | {"max_slice_nums": most}
    changed = rules if version == "2.0" else {"slice_config": rules}
    processor = MiniCPMVProcessor(byte_tokenizer(NAMES[version]), tiny_config(version, **changed))
    card = CARD.model_copy(update={"family": f"minicpm-v-{version}", "max_slices": 9, "context": 2000})
    return LocalEngine(tiny_model(version, **changed), processor, card, CPU, FP32, **how)


def done(engine: LocalEngine, conversation: Conversation, **how: object) -> Finished:
    options: Options = Sampling(0, max_new_tokens=12, **how)  # type: ignore[arg-type]
    *_, last = engine.stream(conversation, options, "me")
    assert isinstance(last, Finished)
    return last


@pytest.mark.parametrize("version", ["2.0", "2.5", "2.6", "4.5"])
def test_a_chosen_number_of_slices_is_as_if_the_checkpoint_said_it(version: str) -> None:
    """Turn by turn another number: what is kept is never that of another one."""
    engine, forgetful = ours(version, **KEPT), {most: ours(version, most, **FORGOTTEN) for most in (1, 4, 9)}
    assert engine.card.max_slices == 4  # of the checkpoint, whatever the card says
    conversation, tokens = QUESTION, {}
    for most in (9, 1, 9, None, 9):
        said, anew = done(engine, conversation, max_slices=most), done(forgetful[most or 4], conversation)
        assert (said.text, said.usage.picture_tokens) == (anew.text, anew.usage.picture_tokens), most
        views = engine.slices(WIDE, Sampling(max_slices=most))
        assert views and sum(view.tokens for view in views) == said.usage.picture_tokens
        assert len(views) <= 1 + (most or 4)
        tokens[most] = said.usage.picture_tokens
        conversation = conversation.with_message("assistant", said.text).with_message("user", "And?")
    assert tokens[1] < tokens[None] < tokens[9]
    again = done(engine, conversation, max_slices=9)
    assert again.usage.reused > tokens[9]  # the same number as before: the picture is not read again


def test_the_default_of_the_program_is_that_of_every_question_which_does_not_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version, most in (("2.6", 9), ("1.0", 9), ("2.6", None)):
        folder = save_tiny(tmp_path / f"{version}-{most}", version)
        engine = load_engine(str(folder), "cpu", "fp32", max_slices=most)
        assert engine.card.max_slices == {"2.6": most or 4, "1.0": None}[version]
        usual, few = (
            done(engine, QUESTION, **how).usage for how in ({}, {} if version == "1.0" else {"max_slices": 1})
        )
        if version == "2.6":
            views = engine.slices(WIDE)
            assert views and sum(view.tokens for view in views) == usual.picture_tokens > few.picture_tokens
            assert (len(views) > 5) == (most == 9)
        assert ("--max-slices has no effect" in caplog.text) == (version == "1.0")
        caplog.clear()
    with pytest.raises(OptionsError, match="max_slices must be a whole number from 1 to 36"):
        load_engine(str(folder), "cpu", "fp32", max_slices=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_library_model(tmp_path_factory.mktemp("finer"), "minicpm-v-4.6")


def test_4_6_sees_more_slices_and_finer_detail_as_its_own_generate_does(folder: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = load_processor(folder)
    card = CARD.model_copy(update={"context": 4000, "max_slices": 9, "finer_detail": True})
    engine = LocalEngine(model, processor, card, CPU, FP32, **KEPT)
    forgetful = LocalEngine(model, processor, card, CPU, FP32, **FORGOTTEN)
    conversation, tokens = QUESTION, {}
    ways: tuple[dict[str, object], ...] = ({}, {"finer_detail": True}, {"max_slices": 9}, {}, {"finer_detail": True})
    for how in ways:
        said, anew = done(engine, conversation, **how), done(forgetful, conversation, **how)
        assert (said.text, said.usage.picture_tokens) == (anew.text, anew.usage.picture_tokens), how
        assert (
            engine.backend.length(conversation, Sampling(**how)) == said.usage.text_tokens + said.usage.picture_tokens
        )  # type: ignore[arg-type]
        tokens[str(how)] = said.usage.picture_tokens
        conversation = conversation.with_message("assistant", said.text).with_message("user", "And?")
    plain, finer, more = tokens[str({})], tokens[str({"finer_detail": True})], tokens[str({"max_slices": 9})]
    assert finer > 3 * plain and more > plain
    assert done(engine, conversation, finer_detail=True).usage.reused > 0
    messages = [
        {"role": "user", "content": [{"type": "image", "image": WIDE.image}, {"type": "text", "text": "What is it?"}]}
    ]
    inputs = processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"downsample_mode": "4x"},
    )
    generated = model.generate(
        **inputs,
        downsample_mode="4x",
        do_sample=False,
        max_new_tokens=12,
        repetition_penalty=1.05,
        eos_token_id=engine.backend.stop_ids,
    )
    ids = generated[0, inputs["input_ids"].shape[1] :].tolist()
    assert done(forgetful, QUESTION, finer_detail=True).usage.new_tokens == len(ids)


def test_what_a_model_has_no_choice_of_is_said() -> None:
    for name, option, other in (
        ("minicpm-v-1", {"max_slices": 4}, "--model minicpm-v-2.6"),
        ("minicpm-v-2.6", {"finer_detail": True}, "--model minicpm-v-4.6"),
    ):
        with pytest.raises(OptionsError, match=f"leave it out.*{other}"):
            options_for(find(name), **option)  # type: ignore[arg-type]
    for wrong in (0, 37, 2.5, "9"):
        with pytest.raises(OptionsError, match="max_slices must be a whole number from 1 to 36"):
            options_for(find("minicpm-v-2.6"), max_slices=wrong)
    assert {name for name, card in cards().items() if card.finer_detail} == {
        "minicpm-v-4.6",
        "minicpm-v-4.6-thinking",
        "minicpm-v-4.7",
    }
    assert options_for(find("minicpm-v-4.6"), "beam", max_slices=36, finer_detail=True).max_slices == 36


def test_a_model_of_transformers_outside_the_catalog_has_the_choice_only_where_it_is_known(
    folder: Path, tmp_path: Path
) -> None:
    known = find(str(folder))
    assert (known.max_slices, known.finer_detail) == (9, True)
    other = find(str(save_library_model(tmp_path, "llava")))
    assert (other.max_slices, other.finer_detail) == (None, False)
