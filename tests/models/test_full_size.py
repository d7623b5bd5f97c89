"""At full size the models have exactly the published tensors; nothing is allocated (meta device)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from omnilmm.catalog import cards
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV

TABLE = Path(__file__).parent / "data" / "minicpm-llama3-v-2_5.txt"

# config.json as published.
LLAMA3_V_2_5: dict[str, Any] = {
    "version": "2.5",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "batch_vision_input": True,
    "bos_token_id": 128000,
    "drop_vision_last_layer": False,
    "eos_token_id": 128001,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "image_size": 448,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "mm_use_im_start_end": True,
    "model_type": "minicpmv",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "patch_size": 14,
    "pretraining_tp": 1,
    "query_num": 96,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14, "model_type": "minicpmv"},
    "slice_mode": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": False,
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 980,
        "intermediate_size": 4304,
        "model_type": "idefics2",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
    "vocab_size": 128256,
}
V_2_6 = LLAMA3_V_2_5 | {
    "version": 2.6,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "query_num": 64,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vision_config": LLAMA3_V_2_5["vision_config"] | {"model_type": "siglip"},
    "vocab_size": 151666,
}


def published_tensors() -> dict[str, tuple[int, ...]]:
    """Names and shapes; `{0..31}` in a name stands for the layers."""
    tensors = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        name, *shape = line.split()
        layers = re.search(r"\{0\.\.(\d+)\}", name)
        for layer in range(int(layers[1]) + 1) if layers else [0]:
            tensors[re.sub(r"\{.*\}", str(layer), name)] = tuple(map(int, shape))
    return tensors


def skeleton(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of our model."""
    with torch.device("meta"):
        model = MiniCPMV(MiniCPMVConfig(**config))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_llama3_v_2_5_has_exactly_the_published_tensors() -> None:
    assert len(published_tensors()) == 741
    assert skeleton(LLAMA3_V_2_5) == published_tensors()


def test_v_2_6_has_the_same_tensors_and_biases_of_qwen2() -> None:
    biases = {f"llm.model.layers.{layer}.self_attn.{kind}_proj.bias" for layer in range(28) for kind in "qkv"}
    shared = {name for name in published_tensors() if not re.match(r"llm\.model\.layers\.(28|29|30|31)\.", name)}
    ours = skeleton(V_2_6)
    assert set(ours) == shared | biases
    assert ours["resampler.query"] == (64, 3584)
    assert ours["resampler.kv_proj.weight"] == (3584, 1152)


@pytest.mark.parametrize(
    ("config", "name", "parameters"),
    [
        (LLAMA3_V_2_5, "minicpm-llama3-v-2.5", 8_537_092_336),
        (V_2_6, "minicpm-v-2.6", 8_099_175_152),
    ],
    ids=["2.5", "2.6"],
)
def test_the_number_of_parameters_is_the_published_one(config: dict[str, Any], name: str, parameters: int) -> None:
    assert sum(math.prod(shape) for shape in skeleton(config).values()) == parameters == cards()[name].parameters


def test_resampler_heads_are_128_wide() -> None:
    with torch.device("meta"):
        heads = [MiniCPMV(MiniCPMVConfig(**config)).resampler.attn.num_heads for config in (LLAMA3_V_2_5, V_2_6)]
    assert heads == [32, 28]


def test_slicing_rules_of_a_config_that_leaves_the_resolution_out() -> None:
    rules = MiniCPMVConfig(**LLAMA3_V_2_5).slicing_rules
    assert (rules.max_slices, rules.scale_resolution, rules.patch_size) == (9, 448, 14)
