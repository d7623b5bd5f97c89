"""Complete MiniCPM-V checkpoints of a few hundred thousand random weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from tests.prompts.byte_tokenizer import CHATML, LLAMA3, byte_tokenizer

NAMES = {"2.5": LLAMA3, "2.6": CHATML}
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "query_num": 4,
    "slice_config": {"max_slice_nums": 4, "patch_size": 14, "scale_resolution": 56},
    "vision_config": {
        "hidden_size": 48,
        "image_size": 112,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "patch_size": 14,
    },
}


def tiny_config(version: str = "2.6", **changed: Any) -> MiniCPMVConfig:
    names = NAMES[version]
    return MiniCPMVConfig(**{"version": version, "vocab_size": 256 + len(names), **SIZES, **changed})


def tiny_model(version: str = "2.6", **changed: Any) -> MiniCPMV:
    """The same random weights every time, far enough from zero that every token matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MiniCPMV(tiny_config(version, **{"initializer_range": 0.2} | changed)).eval()


def tiny_processor(version: str = "2.6") -> MiniCPMVProcessor:
    return MiniCPMVProcessor(byte_tokenizer(NAMES[version]), tiny_config(version))


def save_tiny(folder: str | os.PathLike[str], version: str = "2.6") -> Path:
    """A folder as a hub repository has it."""
    tiny_model(version).save_pretrained(folder)
    tiny_processor(version).save_pretrained(folder)
    return Path(folder)
