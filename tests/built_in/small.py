"""A model of the built-in one's make, small enough to train within a second, and its processor."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch

from built_in.cells import CELLS, WORDS
from built_in.lessons import corpus
from built_in.tokenizer import train_tokenizer
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor

VOCABULARY = 1200
# The built-in model's own view of a picture: 168 x 168 pixels, patches of 12, up to 9 slices, a feature per cell.
VIEW: dict[str, Any] = {
    "image_size": 168,
    "patch_size": 12,
    "query_num": CELLS**2,
    "slice_config": {"max_slice_nums": 9, "patch_size": 12, "scale_resolution": 168},
}
LANGUAGE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.05,
}
TOWER = {
    "hidden_size": 32,
    "image_size": 288,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "patch_size": 12,
}


def small_config() -> MiniCPMVConfig:
    return MiniCPMVConfig(version=2.6, vision_config=TOWER, **VIEW, **LANGUAGE)


def small_model(seed: int = 1) -> MiniCPMV:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MiniCPMV(small_config())


@cache
def small_processor() -> MiniCPMVProcessor:
    """Its tokenizer was trained on a few lessons, and has every word of the labels."""
    texts = [*corpus(random.Random(0), 150), *WORDS * 200]
    return MiniCPMVProcessor(train_tokenizer(texts, VOCABULARY), small_config())
