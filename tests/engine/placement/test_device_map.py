"""Parts that belong together lie together, no layer is cut, nothing exceeds its device, and it computes the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from omnilmm.engine.placement import device_map as placement
from omnilmm.engine.placement.device_map import Device, device_map, from_pretrained_arguments, parse_max_memory
from omnilmm.engine.placement.estimate import estimate
from omnilmm.engine.placement.layers import decoder_layers, outside_layers, skeleton, tensor_sizes
from omnilmm.errors import HardwareError, OptionsError
from tests.engine.placement.test_layers import full_size
from tests.models.tiny import save_tiny, tiny_config

GIB = 2**30
TWO_OF_10 = {0: "10GiB", 1: "10GiB"}


def weights_on(config, plan: dict[str, Device], dtype: str) -> Counter[Device]:
    """Bytes of weights per device."""
    placed: Counter[Device] = Counter()
    for tensor, size in tensor_sizes(skeleton(config), dtype, "cuda").items():
        [device] = {device for part, device in plan.items() if tensor == part or tensor.startswith(f"{part}.")}
        placed[device] += size
    return placed


@pytest.mark.parametrize(
    ("name", "dtype", "limits"),
    [
        ("minicpm-llama3-v-2.5", "bf16", TWO_OF_10),
        ("minicpm-llama3-v-2.5", "fp16", TWO_OF_10),
        ("minicpm-llama3-v-2.5", "int4", {0: "5GiB", 1: "5GiB"}),
        ("minicpm-v-2.6", "bf16", {0: "6GiB", 1: "6GiB", 2: "6GiB"}),
        ("minicpm-v-2", "bf16", {1: "6GiB", 0: "6GiB"}),
        ("omnilmm-12b", "bf16", {0: "24GiB", 1: "24GiB"}),
        ("omnilmm-12b", "bf16", {0: "14GiB", 1: "14GiB"}),
    ],
)
def test_a_plan_keeps_together_what_belongs_together(name: str, dtype: str, limits: dict[Device, str]) -> None:
    config = full_size(name)
    plan = device_map(config, limits, dtype)
    model = skeleton(config)
    path, layers = decoder_layers(model)
    assert {plan[part] for part in outside_layers(model)} == {0}
    order = [plan[f"{path}.{index}"] for index in range(len(layers))]
    assert order == sorted(order)  # whole layers, one device after the other
    assert set(order) == set(limits)
    # Not only the weights fit, but their caches, and on the first device the working memory.
    need, placed = estimate(skeleton(config), dtype), weights_on(config, plan, dtype)
    assert sum(placed.values()) == need.weights
    rooms = {}
    for device, limit in limits.items():
        share = need.cache * order.count(device) / len(order)
        rooms[device] = placement.parse_size(limit) - placed[device] - share - (need.work if device == 0 else 0)
    assert min(rooms.values()) >= 0
    layer = (need.weights - placed[0]) / (len(order) - order.count(0)) + need.cache / len(order)
    assert max(rooms.values()) - min(rooms.values()) <= 1.01 * layer * (len(limits) - 1)


def test_the_published_recipe_for_two_gpus_of_10_gib_fits_with_room() -> None:
    config = full_size("minicpm-llama3-v-2.5")
    placed = weights_on(config, device_map(config, TWO_OF_10, "fp16"), "fp16")
    assert {device: round(size / GIB, 1) for device, size in placed.items()} == {0: 7.8, 1: 8.1}


def test_what_gpus_cannot_take_spills_to_the_cpu_and_then_the_disk() -> None:
    config = full_size("minicpm-llama3-v-2.5")
    plan = device_map(config, {"disk": "100GiB", "cpu": "4GiB", 0: "8GiB"}, "bf16")
    order = [plan[f"llm.model.layers.{index}"] for index in range(32)]
    assert order == [0] * order.count(0) + ["cpu"] * order.count("cpu") + ["disk"] * order.count("disk")
    assert order.count("cpu") == 9  # of 0.41 GiB each, with their part of the cache
    # The GPU computes them all: it keeps room for the caches of all, and for one visiting layer.
    need, placed = estimate(skeleton(config), "bf16"), weights_on(config, plan, "bf16")
    layer = placed["disk"] / order.count("disk")
    assert placed[0] + need.work + need.cache + layer <= 8 * GIB


def test_without_limits_what_is_free_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cuda:0": 12 * GIB, "cuda:1": 12 * GIB, "cpu": 1}
    monkeypatch.setattr(placement, "free_memory", free.get)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert set(device_map(full_size("minicpm-llama3-v-2.5")).values()) == {0, 1}
    free["cuda:1"] = 5 * GIB
    with pytest.raises(
        HardwareError, match=r"does not fit into 10\.8 GiB on cuda:0, 4\.5 GiB on cuda:1, 0\.0 GiB on cpu"
    ):
        device_map(full_size("minicpm-llama3-v-2.5"))


def test_what_does_not_fit_is_an_error_with_numbers() -> None:
    config = full_size("minicpm-llama3-v-2.5")
    with pytest.raises(HardwareError, match=r"MiniCPMV in bf16 needs 17\.0 GiB, of which 3\.5 GiB must lie together"):
        device_map(config, {0: "3GiB", 1: "24GiB"}, "bf16")
    with pytest.raises(HardwareError, match="--max-memory, or try --dtype int4"):
        device_map(config, {0: "4GiB", "cpu": "12GiB"}, "bf16")
    # Quantised layers cannot lie on the CPU beside a GPU.
    with pytest.raises(HardwareError, match=r"does not fit into 4\.0 GiB on cuda:0: allow"):
        device_map(config, {0: "4GiB", "cpu": "100GiB"}, "int4")


@pytest.mark.parametrize("version", ["2.0", "2.6", "omnilmm"])
def test_a_model_spread_over_memory_and_disk_computes_the_same(version: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", version)
    config = AutoConfig.from_pretrained(folder)
    need = estimate(skeleton(config), "fp32", device="cpu", context=64)
    plan = device_map(config, {"cpu": need.total + need.cache, "disk": "1GiB"}, "fp32", context=64)
    whole = AutoModelForImageTextToText.from_pretrained(folder).eval()
    spread = AutoModelForImageTextToText.from_pretrained(
        folder, device_map=plan, offload_folder=str(tmp_path / "offload")
    ).eval()
    _, layers = decoder_layers(spread)
    assert [{tensor.is_meta for tensor in layer.parameters()} for layer in layers] == [{False}, {True}]
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(spread(input_ids=ids).logits, whole(input_ids=ids).logits)
        assert torch.equal(
            spread.generate(input_ids=ids, max_new_tokens=4), whole.generate(input_ids=ids, max_new_tokens=4)
        )


def test_arguments_for_loading() -> None:
    config = tiny_config()
    assert from_pretrained_arguments(config, "cpu", "bf16") == {"dtype": torch.bfloat16, "device_map": {"": "cpu"}}
    arguments = from_pretrained_arguments(config, "cpu", "int8")
    assert arguments["quantization_config"].load_in_8bit
    assert arguments["quantization_config"].llm_int8_skip_modules[:2] == ["vpm", "resampler"]
    # A quantised checkpoint brings its own way along.
    config.quantization_config = {"load_in_4bit": True, "quant_method": "bitsandbytes"}
    assert set(from_pretrained_arguments(config, "cpu", "int4")) == {"dtype", "device_map"}


def test_arguments_for_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = full_size("minicpm-llama3-v-2.5")
    arguments = from_pretrained_arguments(config, "balanced", "fp16", parse_max_memory("0=10GiB,1=10GiB"))
    assert arguments == {"dtype": torch.float16, "device_map": device_map(config, TWO_OF_10, "fp16")}
    with pytest.raises(HardwareError, match="names GPU 2, but there are 2, numbered from 0"):
        from_pretrained_arguments(config, "balanced", "fp16", {2: "10GiB"})
    with pytest.raises(OptionsError, match="for --device balanced only, got --device cuda"):
        from_pretrained_arguments(config, "cuda", "fp16", {0: "10GiB"})


def test_memory_limits_are_read() -> None:
    assert parse_max_memory("0=10GiB,1=10GiB,cpu=20GiB") == {0: 10 * GIB, 1: 10 * GIB, "cpu": 20 * GIB}
    assert parse_max_memory(" 3 = 1.5 gb , disk=512MiB") == {3: 1_500_000_000, "disk": 512 * 2**20}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not DEVICE=SIZE"),
        ("10GiB", "'10GiB' is not DEVICE=SIZE, with the number of a GPU, cpu or disk"),
        ("mps=1GiB", "'mps=1GiB' is not"),
        ("-1=1GiB", "'-1=1GiB' is not"),
        ("0=10", "'10' is no size above 0 in KiB, MiB, GiB, KB, MB, GB"),
        ("0=0GiB", "'0GiB' is no size above 0"),
        ("0=1GiB,0=2GiB", "0 is there twice"),
        ("a=1GiB,cpu=x", "'a=1GiB' is not DEVICE=SIZE, with the number of a GPU, cpu or disk; 'x' is no size"),
    ],
)
def test_memory_limits_that_cannot_be_read_are_listed(text: str, problem: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse_max_memory(text)
    assert str(caught.value).startswith("--max-memory: ")
    assert problem in str(caught.value)
    assert str(caught.value).endswith("Expected e.g. 0=10GiB,1=10GiB,cpu=20GiB.")
