"""The model as a whole: merging, batching, gradients, and what a slice's features depend on."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.vision import fractional_buckets
from tests.models.tiny import VERSIONS, tiny_model, tiny_processor

SMALL, LARGE = (50, 50), (56, 28)  # 16 and 18 patches
CUT = (160, 110)


@pytest.fixture(scope="module", params=VERSIONS)
def model(request: pytest.FixtureRequest) -> MiniCPMV:
    return tiny_model(request.param)


def drawing(size: tuple[int, int]) -> Picture:
    return Picture(Image.linear_gradient("L").resize(size).convert("RGB"))


def question(*sizes: tuple[int, int]) -> Conversation:
    return Conversation().with_message("user", *(drawing(size) for size in sizes), "What?")


@torch.no_grad()
def features(model: MiniCPMV, *sizes: tuple[int, int]) -> Tensor:
    pixels, target_sizes = tiny_processor(str(model.config.version)).pixel_values(question(*sizes).pictures)
    return model.get_image_features(pixels, target_sizes)


def test_features_of_2_6_do_not_depend_on_what_else_is_seen() -> None:
    model = tiny_model("2.6")
    alone, together = features(model, SMALL), features(model, SMALL, LARGE)
    assert torch.allclose(alone[0], together[0], atol=1e-5)


def test_features_of_2_5_depend_on_the_longest_slice() -> None:
    """A quirk of the published code that its weights were trained with; a cache of features has to know it."""
    model = tiny_model("2.5")
    alone, together = features(model, SMALL), features(model, SMALL, LARGE)
    assert not torch.allclose(alone[0], together[0], atol=1e-3)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_the_batch_size_of_the_tower_changes_nothing(batch: int) -> None:
    model, batches = tiny_model("2.6"), []
    model.config.vision_batch_size = batch
    model.tower.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    found = features(model, CUT, LARGE)
    assert torch.allclose(found, features(tiny_model("2.6"), CUT, LARGE), atol=1e-5)
    assert max(batches) == min(batch, len(found)) and sum(batches) == len(found)


def test_pictures_change_the_answer(model: MiniCPMV) -> None:
    processor = tiny_processor(str(model.config.version))
    inputs = processor.inputs(question(SMALL))
    other = inputs["pixel_values"].flip(-1)
    with torch.no_grad():
        seen = model(**inputs).logits[0, -1]
        assert not torch.allclose(seen, model(**{**inputs, "pixel_values": other}).logits[0, -1], atol=1e-4)


def test_slots_and_features_have_to_match(model: MiniCPMV) -> None:
    inputs = tiny_processor(str(model.config.version)).inputs(question(SMALL))
    with pytest.raises(ValueError, match="4 picture slots, but 0 features"):
        model.merge(inputs["input_ids"], inputs["image_slots"], None)
    with pytest.raises(ValueError, match="4 picture slots, but 8 features"):
        model.merge(inputs["input_ids"], inputs["image_slots"], torch.zeros(2, 4, 128))


def test_features_lie_in_their_slots_in_order(model: MiniCPMV) -> None:
    inputs = tiny_processor(str(model.config.version)).inputs(question(SMALL, SMALL))
    given = torch.arange(2 * 4 * 128, dtype=torch.float32).reshape(2, 4, 128)
    merged = model.merge(inputs["input_ids"], inputs["image_slots"], given)
    assert torch.equal(merged[inputs["image_slots"]], given.flatten(0, 1))
    words = ~inputs["image_slots"]
    assert torch.equal(merged[words], model.get_input_embeddings()(inputs["input_ids"])[words])


def test_without_a_prompt_there_is_a_clear_error(model: MiniCPMV) -> None:
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        model()


def test_loss_reaches_tower_resampler_and_language_model(model: MiniCPMV) -> None:
    inputs = tiny_processor(str(model.config.version)).inputs(question(SMALL))
    try:
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        for name in (
            next(name for name, _ in model.named_parameters() if name.startswith("vpm.") and "patch" in name),
            next(name for name, _ in model.named_parameters() if name.startswith("vpm.") and "fc1.weight" in name),
            "resampler.query",
            "resampler.proj",
            "llm.model.embed_tokens.weight",
            "llm.lm_head.weight",
        ):
            gradient = model.get_parameter(name).grad
            assert gradient is not None and gradient.abs().sum() > 0 and gradient.isfinite().all(), name
    finally:
        model.zero_grad(set_to_none=True)


def test_generated_ids_come_without_the_prompt(model: MiniCPMV) -> None:
    inputs = tiny_processor(str(model.config.version)).inputs(question(SMALL))
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=0)
    with torch.no_grad():
        first = int(model(**inputs).logits[0, -1].argmax())
    assert ids.shape == (1, 5) and int(ids[0, 0]) == first


def test_a_batch_of_padded_prompts_answers_like_each_alone(model: MiniCPMV) -> None:
    processor = tiny_processor(str(model.config.version))
    short, long = (processor.prompt(Conversation().with_message("user", words)).input_ids for words in ("Hi", "Hello?"))
    padding = len(long) - len(short)
    ids = torch.tensor([[0] * padding + short, long])
    mask = torch.tensor([[0] * padding + [1] * len(short), [1] * len(long)])
    both = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
    alone = [
        model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=4, do_sample=False, pad_token_id=0)[0].tolist()
        for prompt in (short, long)
    ]
    assert both.tolist() == alone


def test_an_exclamation_mark_is_a_token_like_any_other(model: MiniCPMV) -> None:
    """Id 0 in these tokenizers: neither masked out of prompts nor taken for padding."""
    processor = tiny_processor(str(model.config.version))
    plain, loud = (processor.inputs(Conversation().with_message("user", words)) for words in ("Hi. ", "Hi! "))
    assert 0 in loud["input_ids"] and bool(loud["attention_mask"].all())
    with torch.no_grad():
        assert not torch.allclose(model(**plain).logits[0, -1], model(**loud).logits[0, -1], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(model: MiniCPMV, dtype: torch.dtype) -> None:
    inputs = tiny_processor(str(model.config.version)).inputs(question(CUT, LARGE))
    half = tiny_model(str(model.config.version)).to(dtype)
    with torch.no_grad():
        exact, rough = model(**inputs).logits.softmax(-1), half(**inputs).logits.float().softmax(-1)
    assert rough.isfinite().all() and float((exact - rough).abs().max()) < 0.1


def test_buckets_are_the_published_float32_ones() -> None:
    """Exact integers would give other buckets, for example for these four of 1035 patches."""
    for length in range(1, 1400):
        buckets = fractional_buckets(length, 70)
        assert len(buckets) == length and bool((buckets[1:] >= buckets[:-1]).all())
        assert int(buckets[0]) == 0 and int(buckets[-1]) == 70 * (length - 1) // length
    different = fractional_buckets(1035, 70) != torch.arange(1035) * 70 // 1035
    assert different.nonzero().flatten().tolist() == [207, 414, 621, 828]
