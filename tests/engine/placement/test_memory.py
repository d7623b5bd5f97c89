"""What a model takes is estimated before it is loaded, and compared with what is free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import PreTrainedConfig

from omnilmm import hardware
from omnilmm.catalog import ModelCard, cards
from omnilmm.engine.placement import device_memory
from omnilmm.engine.placement.device_memory import footprint, free_memory
from omnilmm.engine.placement.estimate import LARGEST_PICTURE, TOKENS, Need, estimate
from omnilmm.engine.placement.fit import check_fit
from omnilmm.engine.placement.layers import decoder_layers, skeleton
from omnilmm.errors import HardwareError
from omnilmm.hardware import Choice, gib
from omnilmm.model_lookup import find
from tests.engine.placement.test_layers import full_size
from tests.models.tiny import tiny_config, tiny_model

GIB = 2**30
CARD = cards()["minicpm-llama3-v-2.5"]


@pytest.fixture(scope="module")
def config() -> PreTrainedConfig:
    return full_size("minicpm-llama3-v-2.5")


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, config: PreTrainedConfig):
    """`check_fit` of 2.5 on a GPU with so many GiB free, in a machine with so many on the CPU."""

    def check(
        free_gib: float, dtype: str = "bf16", *, device: str = "cuda", card: ModelCard = CARD, cpu_gib: float = 1
    ):
        free = {device: int(free_gib * GIB), "balanced": int((free_gib + cpu_gib) * GIB)}
        monkeypatch.setattr(device_memory, "free_memory", free.get)
        monkeypatch.setattr(hardware, "_capability", lambda device: (8, 6))
        return check_fit(card, config, Choice(device, "test"), Choice(dtype, "test"))

    return check


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
    need = estimate(full_size(name), dtype, context=cards()[name].context)
    assert (need.weights / GIB, need.total / GIB) == pytest.approx((weights, total), abs=0.06)


def test_the_cache_is_keys_and_values_of_every_layer(config: PreTrainedConfig) -> None:
    layers, heads, head_width = 32, 8, 128
    assert estimate(config, "fp16").cache == 2 * layers * heads * head_width * TOKENS * 2
    assert estimate(config, "fp16", context=1000).cache == 2 * layers * heads * head_width * 1000 * 2
    assert estimate(config, "fp16", context=10**6).cache == estimate(config, "fp16").cache


def test_on_a_cpu_without_bf16_the_parts_that_are_not_quantised_take_double(
    config: PreTrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    with_bf16 = estimate(config, "int4", device="cpu").weights
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    outside = 8_537_092_336 - 32 * (2 * 4096**2 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    assert estimate(config, "int4", device="cpu").weights - with_bf16 == 2 * outside


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("version", ["2.0", "2.6"])
def test_the_estimate_of_weights_is_the_footprint_of_the_model(version: str, dtype: str) -> None:
    tables = sum(table.nbytes for table in tiny_model(version).buffers())
    loaded = tiny_model(version).to(getattr(torch, hardware.DTYPES[dtype]))  # casts the tables too, loading does not
    tables -= sum(table.nbytes for table in loaded.buffers())
    assert footprint(loaded) + tables == estimate(tiny_config(version), dtype).weights


def test_tied_weights_count_once_and_the_disk_not() -> None:
    first = torch.nn.Linear(8, 8, bias=False)
    tied = torch.nn.Linear(8, 8, bias=False)
    tied.weight = first.weight
    away = torch.nn.Linear(8, 8, device="meta")
    assert footprint(torch.nn.ModuleList([first, tied, away])) == 8 * 8 * 4


def test_the_working_memory_holds_what_a_pass_holds_at_once() -> None:
    """Measured by following every tensor that a pass makes, against what is estimated for the tower and the prompt."""
    config = tiny_config("2.5", hidden_size=256, intermediate_size=896)
    config.slice_config["scale_resolution"] = 112  # slices of 64 patches
    need = estimate(config, "fp32", context=512)
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


def test_what_fits_is_not_mentioned(fit) -> None:
    assert fit(18) is None


def test_weights_that_fit_alone_are_a_warning_with_a_way_out(fit) -> None:
    warning = fit(16.5)
    assert warning is not None
    assert str(warning).startswith(
        "MiniCPM-Llama3-V 2.5 in bf16 needs 17.0 GiB, 16.5 GiB are free on cuda. The weights (15.9 GiB) fit, but a "
        "long conversation or a large picture may not: if it fails, try --dtype int8 (10.7 GiB)"
    )


def test_weights_that_do_not_fit_are_refused_with_the_nearest_that_do(fit) -> None:
    with pytest.raises(HardwareError) as caught:
        fit(8)
    message = str(caught.value)
    assert message.startswith(
        "MiniCPM-Llama3-V 2.5 in bf16 needs 17.0 GiB, 8.0 GiB are free on cuda: try --dtype int4 (7.5 GiB)"
    )
    named = message.partition("--model ")[2].partition(" ")[0]
    assert cards()[named].parameters < CARD.parameters
    assert min(cards()[named].memory_gib.values()) <= 8
    assert "balanced" not in message


def test_the_cpu_may_help(fit) -> None:
    with pytest.raises(HardwareError, match="--device balanced"):
        fit(8, cpu_gib=20)
    with pytest.raises(HardwareError, match=r"needs 10\.7 GiB") as caught:
        fit(8, "int8", cpu_gib=20)  # quantised layers stay on GPUs
    assert "balanced" not in str(caught.value)


def test_a_smaller_number_type_of_a_smaller_model_goes_before_the_built_in_one(fit) -> None:
    free = min(min(c.memory_gib.values()) for c in cards().values() if c.memory_gib and c.name != "built-in") + 0.1
    with pytest.raises(HardwareError, match=r"--model minicpm-v-4\.6 --dtype int4 \("):
        fit(free)


def test_of_equal_number_types_bf16_is_proposed(fit) -> None:
    with pytest.raises(HardwareError, match=r"try --dtype bf16 \(17\.0 GiB\)"):
        fit(20, "fp32", device="cpu")


def test_only_what_can_be_done_is_proposed(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "find_spec", lambda name: None)  # no bitsandbytes
    for free in (8, 5):
        with pytest.raises(HardwareError, match="try --model") as caught:
            fit(free)
        assert "int" not in str(caught.value)


def test_a_quantised_checkpoint_has_no_other_number_type(fit) -> None:
    with pytest.raises(HardwareError) as caught:
        fit(4, "int4", card=cards()["minicpm-llama3-v-2.5-int4"])
    assert "--dtype int8" not in str(caught.value).partition("--model")[0]


def test_where_nothing_fits_it_says_so(fit) -> None:
    with pytest.raises(HardwareError, match=r"0\.0 GiB are free on cuda: try (--model built-in|a smaller model)"):
        fit(0.01)


def test_an_unknown_amount_of_memory_is_no_obstacle(fit, monkeypatch: pytest.MonkeyPatch, config) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda device: None)
    assert check_fit(CARD, config, Choice("cpu", "test"), Choice("fp32", "test")) is None


def test_the_built_in_model_fits_everywhere() -> None:
    card = find("built-in")
    config = full_size("minicpm-v-2.6").from_pretrained(card.location)
    assert check_fit(card, config, Choice("cpu", "test"), Choice("fp32", "test")) is None


def test_free_memory_of_the_cpu_is_what_the_machine_or_the_container_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_memory, "CGROUPS", tmp_path / "none")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7 * GIB))
    assert free_memory("cpu") == 7 * GIB
    monkeypatch.setattr(device_memory, "CGROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 150\n")
    assert free_memory("cpu") == 7 * GIB
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory("cpu") == 1000 - 600 + 150
    # Version 1 of cgroups.
    monkeypatch.setattr(device_memory, "CGROUPS", tmp_path / "v1")
    folder = tmp_path / "v1" / "memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("2000\n")
    (folder / "memory.usage_in_bytes").write_text("500\n")
    (folder / "memory.stat").write_text("cache 7\ntotal_inactive_file 100\n")
    assert free_memory("cpu") == 1600


def test_free_memory_of_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"cuda:0": 5 * GIB, "cuda:1": 3 * GIB, "cuda": 5 * GIB}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (left[device], 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4)
    assert free_memory("cuda:1") == 3 * GIB + 3
    assert free_memory("cuda") == 5 * GIB + 3
    monkeypatch.setattr(device_memory, "_free_of_cpu", lambda: 100)
    assert free_memory("balanced") == 8 * GIB + 6 + 100
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * GIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 4 * GIB)
    assert free_memory("mps") == 6 * GIB


def test_it_reads_well() -> None:
    assert gib(7.55 * GIB) == "7.5 GiB" or gib(7.55 * GIB) == "7.6 GiB"
    need = Need(weights=6 * GIB, cache=GIB // 2, work=GIB // 4)
    assert str(need) == "6.8 GiB (weights 6.0 GiB, conversation 0.5 GiB, working memory 0.2 GiB)"


def test_importing_it_is_cheap() -> None:
    script = (
        "import sys\n"
        "from omnilmm.engine.placement import bitsandbytes, device_map, device_memory, estimate, fit\n"
        "assert not {'torch', 'transformers', 'bitsandbytes', 'accelerate'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])


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
    whole, int4 = (estimate(config, dtype, device="cuda") for dtype in ("bf16", "int4"))
    config.quantization_config = settings
    packed = estimate(config, "fp16", device="cuda")
    linear = skeleton(full_size("minicpm-v-2.6"))
    layers = [module for module in decoder_layers(linear)[1].modules() if type(module) is torch.nn.Linear]
    numbers = sum(layer.weight.numel() for layer in layers)
    groups = sum(layer.out_features * (-(-layer.in_features // (group or layer.in_features))) for layer in layers)
    assert whole.weights - packed.weights == 2 * numbers - (numbers + groups) * bits // 8 - 2 * groups
    assert abs(packed.weights / int4.weights - 1) < 0.05 or bits == 8
    config.quantization_config = {"quant_method": "awq", "bits": "four"}
    assert estimate(config, "fp16", device="cuda").weights == whole.weights
