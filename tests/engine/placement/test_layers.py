"""What a model is made of is found without knowing its class, and weighed to the byte."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.minicpmv4_6.configuration_minicpmv4_6 import MiniCPMV4_6Config

from omnilmm.engine.placement.layers import (
    decoder_layers,
    modules_to_not_convert,
    outside_layers,
    quantised_modules,
    skeleton,
    tensor_sizes,
)
from omnilmm.errors import CheckpointError
from tests.models.test_full_size import published_config
from tests.models.tiny import tiny_config

# Name, list of layers, their number, all that lies outside them.
OUTSIDE = {"vpm", "resampler", "llm.lm_head", "llm.model.embed_tokens", "llm.model.norm", "llm.model.rotary_emb"}
OUTSIDE_OF_12B = {"lm_head"} | {
    f"model.{part}" for part in ("embed_tokens", "norm", "rotary_emb", "vision_tower", "resampler")
}
MODELS = [
    ("minicpm-v-2", "llm.model.layers", 40, OUTSIDE),
    ("minicpm-llama3-v-2.5", "llm.model.layers", 32, OUTSIDE),
    ("minicpm-v-2.6", "llm.model.layers", 28, OUTSIDE),
    ("omnilmm-12b", "model.layers", 32, OUTSIDE_OF_12B),
]


def full_size(name: str) -> PreTrainedConfig:
    keys = published_config(name)
    return AutoConfig.for_model(keys.pop("model_type"), **keys)


def library_model() -> PreTrainedModel:
    """A MiniCPM-V 4.6, transformers' own class, with few layers."""
    text = {"model_type": "qwen3_5_text", "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128}
    return skeleton(MiniCPMV4_6Config(text_config=text, vision_config={"num_hidden_layers": 8}))


@pytest.mark.parametrize(("name", "path", "count", "outside"), MODELS, ids=[row[0] for row in MODELS])
def test_layers_and_what_lies_outside(name: str, path: str, count: int, outside: set[str]) -> None:
    model = skeleton(full_size(name))
    found, layers = decoder_layers(model)
    assert (found, len(layers)) == (path, count)
    assert set(outside_layers(model)) == outside
    # Together they are the whole model, and nothing is in both.
    parts = [*outside, f"{path}."]
    for tensor in model.state_dict():
        assert sum(tensor == part or tensor.startswith(f"{part.rstrip('.')}.") for part in parts) == 1, tensor


def test_models_of_the_library_are_treated_alike() -> None:
    model = library_model()
    path, layers = decoder_layers(model)
    assert (path, len(layers)) == ("model.language_model.layers", 4)
    quantised = quantised_modules(model, "int4", "cuda")
    assert quantised and all(name.startswith(path) for name in quantised)


def test_another_list_beside_the_layers_is_not_taken_for_them() -> None:
    model = skeleton(tiny_config(num_hidden_layers=3))
    model.llm.model.another = torch.nn.ModuleList([torch.nn.Linear(2, 2, device="meta")])
    assert decoder_layers(model)[0] == "llm.model.layers"


def test_a_model_without_such_layers_is_refused() -> None:
    model = skeleton(tiny_config())
    model.llm.model.layers = None
    with pytest.raises(CheckpointError, match="MiniCPMV has no list of decoder layers beside its token embeddings"):
        decoder_layers(model)


@pytest.mark.parametrize("name", [row[0] for row in MODELS])
def test_of_a_published_model_all_linear_layers_of_the_decoder_are_quantised(name: str) -> None:
    model = skeleton(full_size(name))
    path, layers = decoder_layers(model)
    assert set(modules_to_not_convert(model)) == set(outside_layers(model))  # no odd one
    of_each = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}
    of_each |= {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}
    expected = {f"{path}.{index}.{part}" for index in range(len(layers)) for part in of_each}
    assert quantised_modules(model, "int4", "cuda") == expected == quantised_modules(model, "int8", "cpu")
    assert quantised_modules(model, "bf16", "cuda") == set()


def test_layers_that_int4_cannot_store_in_whole_blocks_stay_as_they_are() -> None:
    model = skeleton(tiny_config(intermediate_size=96))
    odd = {f"llm.model.layers.{index}.mlp.down_proj" for index in range(2)}  # rows of 96 numbers: a block and a half
    assert set(modules_to_not_convert(model)) - set(outside_layers(model)) == odd
    assert not quantised_modules(model, "int4", "cuda") & odd
    assert "llm.model.layers.0.mlp.up_proj" in quantised_modules(model, "int4", "cuda")


def test_a_quantised_checkpoint_says_what_is_quantised_and_the_cpu_leaves_odd_layers_out() -> None:
    config = full_size("minicpm-llama3-v-2.5")
    config.quantization_config = {"load_in_4bit": True, "llm_int8_skip_modules": ["out_proj", "kv_proj", "lm_head"]}
    model = skeleton(config)
    on_gpu, on_cpu = (quantised_modules(model, "int4", device) for device in ("cuda", "cpu"))
    # As its makers' script does: the projections of all layers, and of the tower q, k, v and the MLP.
    tower = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.fc1", "mlp.fc2"}
    assert {name for name in on_gpu if name.startswith("vpm.")} == {
        f"vpm.encoder.layers.{index}.{part}" for index in range(27) for part in tower
    }
    assert len(on_gpu) == 32 * 7 + 27 * 5
    assert on_gpu - on_cpu == {
        f"vpm.encoder.layers.{index}.mlp.{part}" for index in range(27) for part in ("fc1", "fc2")
    }


def test_tensors_are_weighed_to_the_byte() -> None:
    model = skeleton(tiny_config(intermediate_size=128))
    rows, width = 128, 128
    name = "llm.model.layers.0.mlp.up_proj.weight"
    expected = {
        "fp32": rows * width * 4,
        "bf16": rows * width * 2,
        "fp16": rows * width * 2,
        "int8": rows * width + rows * 4,
        # Half a byte each; a byte per block of 64; a float per 256 blocks; tables of 16 and 256 floats, and an offset.
        "int4": rows * width // 2 + 256 + 4 + (16 + 256 + 1) * 4,
    }
    for dtype, size in expected.items():
        sizes = tensor_sizes(model, dtype, "cuda")
        assert sizes[name] == size, dtype
        assert sizes["vpm.encoder.layers.0.mlp.fc1.weight"] == 64 * 48 * (4 if dtype == "fp32" else 2)
        assert set(sizes) >= set(model.state_dict())
