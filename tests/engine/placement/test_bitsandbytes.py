"""Quantised models answer as before, take less, keep tower and head, and compute rightly on the CPU too."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.placement.bitsandbytes import finalize_quantized_model, prepare_bitsandbytes, quantisation
from omnilmm.engine.placement.device_map import from_pretrained_arguments
from omnilmm.engine.placement.device_memory import footprint
from omnilmm.engine.placement.estimate import estimate
from omnilmm.engine.placement.layers import skeleton
from omnilmm.model_lookup import find
from tests.models.tiny import save_tiny

BUILT_IN = Path(find("built-in").location)
SAMPLES = Path(__file__).parents[3] / "assets" / "samples"


def load(folder: Path, dtype: str) -> Any:
    """As the loader does it."""
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **from_pretrained_arguments(config, "cpu", dtype)
    )
    finalize_quantized_model(model)
    return model.eval()


@pytest.fixture(scope="module")
def prompts() -> list[tuple[Tensor, ...]]:
    """ids, slots, pixels and sizes of every sample question."""
    processor = AutoProcessor.from_pretrained(BUILT_IN)
    found = []
    for sample in yaml.safe_load((SAMPLES / "samples.yaml").read_text(encoding="utf-8")):
        picture = Picture(Image.open(SAMPLES / sample["picture"]))
        conversation = Conversation().with_message("user", picture, sample["question"])
        prompt = processor.prompt(conversation)
        pixels, sizes = processor.pixel_values(conversation.pictures)
        found.append((torch.tensor([prompt.input_ids]), torch.tensor([prompt.image_slots]), pixels, sizes))
    return found


@pytest.fixture(scope="module")
def answers(prompts: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """What the model says in fp32, greedily."""
    model = load(BUILT_IN, "fp32")
    with torch.no_grad():
        return [
            model.generate(
                input_ids=ids,
                image_slots=slots,
                pixel_values=pixels,
                target_sizes=sizes,
                max_new_tokens=12,
                do_sample=False,
            )
            for ids, slots, pixels, sizes in prompts
        ]


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_the_built_in_model_answers_as_before_and_takes_less(
    dtype: str, prompts: list[tuple[Tensor, ...]], answers: list[Tensor]
) -> None:
    model = load(BUILT_IN, dtype)
    taken = footprint(model)
    assert taken == estimate(skeleton(model.config), dtype, device="cpu").weights
    # What is not quantised is in bf16 where the CPU has units for it, else in fp32.
    rest = "bf16" if model.get_input_embeddings().weight.dtype == torch.bfloat16 else "fp32"
    assert taken < (0.8 if dtype == "int8" else 0.7) * footprint(load(BUILT_IN, rest))
    agreed = total = 0
    with torch.no_grad():
        for (ids, slots, pixels, sizes), answer in zip(prompts, answers, strict=True):
            # The answer in fp32 is put into its mouth: which token would it have said at each place?
            embeds = model.merge(ids, slots, model.get_image_features(pixels, sizes))
            whole = torch.cat([embeds, model.get_input_embeddings()(answer)], dim=1)
            said = model(inputs_embeds=whole).logits[0, embeds.shape[1] - 1 : -1].argmax(-1)
            agreed += int((said == answer[0]).sum())
            total += answer.numel()
    assert agreed >= 0.95 * total


@pytest.fixture(params=[True, False], ids=["with AVX512-BF16", "without"])
def has_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A CPU that has instructions for bf16, if this one has, and one that has not."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: request.param and bnb.functional.has_avx512bf16())
    return bool(request.param)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("version", ["2.0", "2.5", "2.6", "omnilmm"])
def test_eyes_and_head_stay_and_the_rest_computes_rightly(
    dtype: str, version: str, has_bf16: bool, tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path, version)
    model, plain = load(folder, dtype), load(folder, "fp32")
    original = dict(plain.named_parameters())
    packed = {name for name, tensor in model.named_parameters() if not tensor.is_floating_point()}
    assert len(packed) == 2 * (7 - 1)  # of each layer all but down_proj, whose rows are no whole blocks
    assert all(".layers." in name and not name.startswith("vpm") for name in packed)
    for name, tensor in model.named_parameters():
        if name in packed:  # the same numbers for the other
            original[name].data = by_hand(model.get_submodule(name.removesuffix(".weight")))
        else:
            assert torch.equal(tensor, original[name].to(torch.bfloat16 if has_bf16 else torch.float32)), name
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        ours, theirs = model(input_ids=ids).logits.float(), plain(input_ids=ids).logits
    exact = dtype == "int4" and not has_bf16  # int8 rounds what it multiplies by, too
    assert error(ours, theirs) < (1e-4 if exact else 0.2)


def test_odd_layers_of_a_quantised_checkpoint_are_right_on_the_cpu(has_bf16: bool, tmp_path: Path) -> None:
    """As the published int4 checkpoint of 2.5: the tower is quantised too, in rows that are no whole blocks."""
    plain = save_tiny(tmp_path / "plain", "2.5")
    published = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
        llm_int8_skip_modules=["out_proj", "kv_proj", "lm_head"],
    )
    made = AutoModelForImageTextToText.from_pretrained(
        plain, dtype=torch.float16, quantization_config=published, device_map={"": "cpu"}
    )
    made.save_pretrained(tmp_path / "int4")
    true = {name: by_hand(module) for name, module in made.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
    model = load(tmp_path / "int4", "int4")
    number = torch.bfloat16 if has_bf16 else torch.float32
    assert {tensor.dtype for tensor in model.parameters()} == {number, torch.uint8}
    assert {module.compute_dtype for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)} == {number}
    # Rows of 48 or 96 numbers, or 48 rows.
    odd = {name for name, module in model.named_modules() if name in true and type(module) is torch.nn.Linear}
    kinds = dict.fromkeys(("q_proj", "k_proj", "v_proj", "fc1", "fc2", "down_proj"), 2)
    assert Counter(name.rpartition(".")[2] for name in odd) == kinds
    reference = load(plain, "fp32")
    for name, weight in true.items():
        reference.get_submodule(name).weight.data = weight
        if name in odd:
            assert torch.equal(model.get_submodule(name).weight, weight.to(number)), name
    pixels, sizes = torch.linspace(-1, 1, 3 * 14 * 14 * 16).view(1, 3, 14, 224), torch.tensor([[4, 4]])
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        ours, theirs = (one.get_image_features(pixels.to(one.dtype), sizes).float() for one in (model, reference))
        assert error(ours, theirs) < (0.03 if has_bf16 else 2e-3)  # the rest of the weights is rounded to float16
        assert error(model(input_ids=ids).logits.float(), reference(input_ids=ids).logits) < 0.1


def error(ours: Tensor, theirs: Tensor) -> float:
    """The length of the difference, relative."""
    return float((ours - theirs).norm() / theirs.norm())


def by_hand(layer: Any) -> Tensor:
    """The numbers of a quantised layer from the description of the format alone."""
    if isinstance(layer, bnb.nn.Linear8bitLt):
        return layer.weight.data * layer.weight.SCB[:, None] / 127
    state = layer.weight.quant_state
    nibbles = torch.stack([layer.weight.data.flatten() >> 4, layer.weight.data.flatten() & 15], dim=1).flatten().long()
    group = torch.arange(len(state.absmax)) // state.state2.blocksize
    scales = state.state2.code[state.absmax.long()] * state.state2.absmax[group] + state.offset
    count = state.shape.numel()
    return (state.code[nibbles] * scales.repeat_interleave(state.blocksize)[: len(nibbles)])[:count].view(state.shape)


def test_int4_is_that_of_the_published_checkpoints() -> None:
    config = quantisation("int4", "fp16", ["vpm", "lm_head"]).to_dict()
    expected = {
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "float16",
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": ["vpm", "lm_head"],
    }
    assert {key: config[key] for key in expected} == expected
    json.dumps(config)  # it is written into config.json
    eight = quantisation("int8", "bf16", ["lm_head"])
    assert eight.load_in_8bit and not eight.load_in_4bit and eight.llm_int8_threshold == 6.0
    assert quantisation("bf16", "bf16", []) is None


def test_no_kernel_is_fetched_from_a_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """bitsandbytes would, at its import, on some CPUs, where a package of that name is installed."""
    (tmp_path / "kernels.py").write_text("raise SystemExit('imported')")
    (tmp_path / "bitsandbytes.py").write_text("try:\n import kernels\nexcept ImportError:\n pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    prepare_bitsandbytes()
    assert sys.modules["bitsandbytes"].__file__ == str(tmp_path / "bitsandbytes.py")
    with pytest.raises(SystemExit):  # afterwards everything is as before
        __import__("kernels")
    marker = object()
    monkeypatch.setitem(sys.modules, "kernels", marker)
    prepare_bitsandbytes()
    assert sys.modules["kernels"] is marker


def test_int8_does_not_warn_at_every_token(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path), "int8")
    with torch.no_grad():
        model(input_ids=torch.arange(3, 9)[None])
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]
