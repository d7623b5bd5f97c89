"""What a model takes is estimated before it is loaded."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedConfig

from omnilmm import hardware
from omnilmm.catalog import cards
from omnilmm.engine.placement.device_memory import footprint
from omnilmm.engine.placement.estimate import LARGEST_PICTURE, TOKENS, Need, estimate
from omnilmm.engine.placement.layers import decoder_layers, skeleton
from omnilmm.hardware import gib
from tests.engine.placement.test_layers import full_size
from tests.models.tiny import tiny_config, tiny_model

GIB = 2**30


@pytest.fixture(scope="module")
def config() -> PreTrainedConfig:
    return full_size("minicpm-llama3-v-2.5")


@pytest.mark.parametrize(
    ("name", "dtype", "weights", "total"),
    [
        # fp16 weights of 2.5 are the size of its published files.
        ("minicpm-llama3-v-2.5", "fp16", 17_074_184_672 / GIB, 17.0),
        ("minicpm-llama3-v-2.5", "fp32", 31.8, 34.1),
        ("minicpm-llama3-v-2.5", "int8", 9.4, 10.7),
        ("minicpm-llama3-v-2.5", "int4", 6.3, 7.5),
        ("minicpm-v-2.6", "bf16", 15.1, 15.9),
        ("minicpm-v-2", "bf16", 6.4, 8.2),
        ("omnilmm-12b", "bf16", 21.6, 22.4),
        ("omnilmm-12b", "int4", 12.0, 12.8),
    ],
)
def test_needs_of_published_models(name: str, dtype: str, weights: float, total: float) -> None:
    need = estimate(skeleton(full_size(name)), dtype, context=cards()[name].context)
    assert (need.weights / GIB, need.total / GIB) == pytest.approx((weights, total), abs=0.06)


def test_the_cache_is_keys_and_values_of_every_layer(config: PreTrainedConfig) -> None:
    layers, heads, head_width = 32, 8, 128
    model = skeleton(config)
    assert estimate(model, "fp16").cache == 2 * layers * heads * head_width * TOKENS * 2
    assert estimate(model, "fp16", context=1000).cache == 2 * layers * heads * head_width * 1000 * 2
    assert estimate(model, "fp16", context=10**6) == estimate(model, "fp16")


def test_on_a_cpu_without_bf16_the_parts_that_are_not_quantised_take_double(
    config: PreTrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    with_bf16 = estimate(skeleton(config), "int4", device="cpu").weights
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    outside = 8_537_092_336 - 32 * (2 * 4096**2 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    assert estimate(skeleton(config), "int4", device="cpu").weights - with_bf16 == 2 * outside


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("version", ["2.0", "2.6"])
def test_the_estimate_of_weights_is_the_footprint_of_the_model(version: str, dtype: str) -> None:
    tables = sum(table.nbytes for table in tiny_model(version).buffers())
    loaded = tiny_model(version).to(getattr(torch, hardware.DTYPES[dtype]))  # casts the tables too, loading does not
    tables -= sum(table.nbytes for table in loaded.buffers())
    assert footprint(loaded) + tables == estimate(skeleton(tiny_config(version)), dtype).weights


def test_the_working_memory_holds_what_a_pass_holds_at_once() -> None:
    """Measured by following every tensor that a pass makes, against what is estimated for the tower and the prompt."""
    config = tiny_config("2.5", hidden_size=256, intermediate_size=896)
    config.slice_config["scale_resolution"] = 112  # slices of 64 patches
    need = estimate(skeleton(config), "fp32", context=512)
    model = tiny_model("2.5", hidden_size=256, intermediate_size=896)
    views = config.plan(LARGEST_PICTURE).sizes
    pixels, sizes = torch.zeros(len(views), 3, 14, 14 * 64), torch.tensor([[8, 8]] * len(views))
    with torch.inference_mode():
        seen = _peak(lambda: model.get_image_features(pixels, sizes))
        read = _peak(lambda: model(inputs_embeds=torch.zeros(1, 512, 256), logits_to_keep=1))
    assert 0.5 * need.work < max(seen, read) < 1.1 * (need.work + need.cache)


def _peak(run) -> int:
    """The most bytes of tensors that lived at once while something ran."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def test_it_reads_well() -> None:
    assert gib(7.55 * GIB) == "7.5 GiB" or gib(7.55 * GIB) == "7.6 GiB"
    need = Need(weights=6 * GIB, cache=GIB // 2, work=GIB // 4)
    assert str(need) == "6.8 GiB (weights 6.0 GiB, conversation 0.5 GiB, working memory 0.2 GiB)"


@pytest.mark.parametrize(
    ("settings", "bits", "group"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["vpm", "resampler"]}, 4, 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}, 4, 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8, 0),
    ],
)
def test_a_checkpoint_in_awq_or_gptq_takes_what_its_packed_decoder_takes(
    settings: dict[str, object], bits: int, group: int
) -> None:
    config = full_size("minicpm-v-2.6")
    whole, int4 = (estimate(skeleton(config), dtype, device="cuda") for dtype in ("bf16", "int4"))
    config.quantization_config = settings
    packed = estimate(skeleton(config), "fp16", device="cuda")
    linear = skeleton(full_size("minicpm-v-2.6"))
    layers = [module for module in decoder_layers(linear)[1].modules() if type(module) is torch.nn.Linear]
    numbers = sum(layer.weight.numel() for layer in layers)
    groups = sum(layer.out_features * (-(-layer.in_features // (group or layer.in_features))) for layer in layers)
    assert whole.weights - packed.weights == 2 * numbers - (numbers + groups) * bits // 8 - 2 * groups
    assert abs(packed.weights / int4.weights - 1) < 0.05 or bits == 8
    config.quantization_config = {"quant_method": "awq", "bits": "four"}
    assert estimate(skeleton(config), "fp16", device="cuda").weights == whole.weights
