"""At full size the models have exactly the published tensors; nothing is allocated (meta device).

`data/` holds each model's published config.json and a table of its tensors: 1.0 and 2.0 have the same, and of 2.6 no
index has been seen, so its config is as remembered and its table follows from 2.5's.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, MiniCPMV4_6Config, MiniCPMV4_7Config

import omnilmm
from omnilmm.catalog import ModelCard, cards
from omnilmm.engine.placement.estimate import estimate
from omnilmm.engine.placement.layers import decoder_layers
from omnilmm.models.config import MiniCPMVConfig

DATA = Path(__file__).parent / "data"
QWEN_3_5_OF_0_8_B = {
    "model_type": "qwen3_5_text",
    "vocab_size": 248320,
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}
SIGLIP_2_OF_400_M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 980,
    "patch_size": 14,
}
# Name, table of tensors, their number, parameters.
PUBLISHED = [
    ("minicpm-v-1", "minicpm-v-2", 694, 3_434_965_792),
    ("minicpm-v-2", "minicpm-v-2", 694, 3_434_965_792),
    ("minicpm-llama3-v-2.5", "minicpm-llama3-v-2.5", 741, 8_537_092_336),
    ("omnilmm-12b", "omnilmm-12b", 1130, 11_615_965_952),
]


def published_config(name: str) -> dict[str, Any]:
    return dict(json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")))


def published_tensors(table: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes; `{0..31}` in a name stands for the layers."""
    tensors = {}
    for line in (DATA / f"{table}.txt").read_text(encoding="utf-8").splitlines():
        name, *shape = line.split()
        layers = re.search(r"\{0\.\.(\d+)\}", name)
        for layer in range(int(layers[1]) + 1) if layers else [0]:
            tensors[re.sub(r"\{.*\}", str(layer), name)] = tuple(map(int, shape))
    return tensors


@cache
def skeleton(name: str) -> torch.nn.Module:
    """Our model from the published config.json, without memory."""
    assert omnilmm.__version__
    config = published_config(name)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config), trust_remote_code=False
        )


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {tensor: tuple(value.shape) for tensor, value in skeleton(name).state_dict().items()}


@pytest.mark.parametrize(("name", "table", "count", "parameters"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_tensors_are_exactly_the_published_ones(name: str, table: str, count: int, parameters: int) -> None:
    assert len(published_tensors(table)) == count
    assert shapes(name) == published_tensors(table)
    assert sum(math.prod(shape) for shape in shapes(name).values()) == parameters == cards()[name].parameters


def test_2_6_has_the_tensors_of_2_5_and_biases_of_qwen2() -> None:
    biases = {f"llm.model.layers.{layer}.self_attn.{kind}_proj.bias" for layer in range(28) for kind in "qkv"}
    of_2_5 = published_tensors("minicpm-llama3-v-2.5")
    shared = {name for name in of_2_5 if not re.match(r"llm\.model\.layers\.(28|29|30|31)\.", name)}
    ours = shapes("minicpm-v-2.6")
    assert set(ours) == shared | biases
    assert ours["resampler.query"] == (64, 3584)
    assert ours["resampler.kv_proj.weight"] == (3584, 1152)
    assert sum(math.prod(shape) for shape in ours.values()) == 8_099_175_152 == cards()["minicpm-v-2.6"].parameters


@pytest.mark.parametrize(("name", "count", "queries"), [("minicpm-v-4", 741, 2560), ("minicpm-v-4.5", 849, 4096)])
def test_4_0_and_4_5_have_the_size_that_follows_from_their_published_numbers(
    name: str, count: int, queries: int
) -> None:
    """No index of theirs has been seen; the factors of 4.0's positions, which no shape depends on, are made up."""
    ours = shapes(name)
    assert len(ours) == count and ours["resampler.query"] == (64, queries)
    assert ours["llm.model.layers.0.self_attn.q_proj.weight"] == (4096, queries)
    assert ("llm.model.layers.0.self_attn.q_norm.weight" in ours) == (name == "minicpm-v-4.5")
    assert sum(math.prod(shape) for shape in ours.values()) == cards()[name].parameters
    for dtype, gib in cards()[name].memory_gib.items():
        assert estimate(skeleton(name), dtype, "cuda", cards()[name].context).total < gib * 2**30


NATIVE = ("minicpm-v-1", "minicpm-v-2", "minicpm-llama3-v-2.5", "minicpm-v-2.6", "minicpm-v-4", "minicpm-v-4.5")


@pytest.mark.parametrize("name", [*NATIVE, "omnilmm-12b"])
def test_a_card_knows_what_an_answer_is_computed_with(name: str) -> None:
    check_decoder(skeleton(name), cards()[name])


@pytest.mark.parametrize("name", ["minicpm-v-4.6", "minicpm-v-4.7"])
def test_4_6_and_4_7_have_the_size_that_their_makers_say(name: str) -> None:
    """Ollama counts 752 M and 548 M in 4.6's language model and tower; 4.7 has a head of its own, 1.55 B in all."""
    kind, has_head = (MiniCPMV4_6Config, False) if name == "minicpm-v-4.6" else (MiniCPMV4_7Config, True)
    text = QWEN_3_5_OF_0_8_B | {"tie_word_embeddings": not has_head}
    config = kind(text_config=text, vision_config=SIGLIP_2_OF_400_M, tie_word_embeddings=not has_head)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == cards()[name].parameters
    check_decoder(model, cards()[name])
    for dtype, gib in cards()[name].memory_gib.items():
        assert estimate(model, dtype, "cuda", cards()[name].context).total < gib * 2**30


def check_decoder(model: Any, card: ModelCard) -> None:
    layers = decoder_layers(model)[1]
    assert card.decoder is not None and card.decoder.depth == len(layers)
    assert card.decoder.layers == sum(parameter.numel() for parameter in layers.parameters())
    assert card.decoder.head == model.get_output_embeddings().weight.numel()


HEADS = {"minicpm-v-1": 18, "minicpm-v-2": 18, "minicpm-llama3-v-2.5": 32, "minicpm-v-2.6": 28, "omnilmm-12b": 32}


@pytest.mark.parametrize("name", HEADS)
def test_resampler_heads_are_128_wide(name: str) -> None:
    assert skeleton(name).resampler.attn.num_heads == HEADS[name]


@pytest.mark.parametrize("name", ["minicpm-v-2", "minicpm-llama3-v-2.5", "minicpm-v-2.6"])
def test_slicing_rules_are_the_published_ones_though_some_are_left_out(name: str) -> None:
    rules = MiniCPMVConfig(**published_config(name)).slicing_rules
    assert (rules.max_slices, rules.scale_resolution, rules.patch_size) == (9, 448, 14)


@pytest.mark.parametrize("name", ["minicpm-v-1", "omnilmm-12b"])
def test_the_first_models_resize_every_picture_to_a_square(name: str) -> None:
    plan = skeleton(name).config.plan((3000, 500))
    assert plan.overview == (448, 448) and plan.grid is None


def test_granite_has_minicpms_scalings() -> None:
    text = MiniCPMVConfig(**published_config("minicpm-v-2")).text_config
    assert text.residual_multiplier == pytest.approx(1.4 / 40**0.5) and text.embedding_multiplier == 1
    assert text.logits_scaling == 9 and text.attention_multiplier == 0.125
