"""Complete checkpoints of a few hundred thousand random weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from omnilmm.models.config import MiniCPMVConfig, OmniLMMConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.omnilmm12b import OmniLMMForCausalLM
from omnilmm.models.processor import MiniCPMVProcessor
from tests.prompts.byte_tokenizer import CHATML, LLAMA3, MINICPM, MINICPM4, QWEN3, byte_tokenizer

VERSIONS = ("1.0", "2.0", "2.5", "2.6", "4.0", "4.5")
NAMES = {"1.0": MINICPM, "2.0": MINICPM, "2.5": LLAMA3, "2.6": CHATML, "4.0": MINICPM4, "4.5": QWEN3}
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "query_num": 4,
}
TOWER = {
    "hidden_size": 48,
    "image_size": 112,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "patch_size": 14,
}
SLICING = {"max_slice_nums": 4, "patch_size": 14, "scale_resolution": 56}
SCALES = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 64, "image_size": 56}
LONG = {
    "rope_type": "longrope",
    "factor": 1.0,
    "long_factor": [1 + number / 4 for number in range(16)],
    "short_factor": [1 + number / 4 for number in range(16)],
    "original_max_position_embeddings": 4096,
}
OWN_KEYS: dict[str, dict[str, Any]] = {
    "1.0": SCALES,
    "2.0": SCALES | SLICING,
    "2.5": {"version": "2.5", "slice_config": SLICING},
    "2.6": {"version": "2.6", "slice_config": SLICING},
    "4.0": {"version": 4.0, "slice_config": SLICING, "head_dim": 32, "rope_scaling": LONG},
    "4.5": {"version": 4.5, "slice_config": SLICING, "head_dim": 32, "batch_3d_resampler": True},
}
OMNILMM = Path(__file__).parents[1] / "golden" / "omnilmm-12b"


def tiny_config(version: str = "2.6", **changed: Any) -> MiniCPMVConfig:
    vocabulary = 256 + len(NAMES[version])
    return MiniCPMVConfig(**{"vocab_size": vocabulary, "vision_config": TOWER, **SIZES, **OWN_KEYS[version], **changed})


def tiny_model(version: str = "2.6", **changed: Any) -> MiniCPMV:
    """The same random weights every time, far enough from zero that every token matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MiniCPMV(tiny_config(version, **{"initializer_range": 0.2} | changed)).eval()


def tiny_processor(version: str = "2.6") -> MiniCPMVProcessor:
    return MiniCPMVProcessor(byte_tokenizer(NAMES[version]), tiny_config(version))


def save_tiny(folder: str | os.PathLike[str], version: str = "2.6") -> Path:
    """A folder as a hub repository has it; "omnilmm" for the architecture of OmniLMM-12B."""
    if version == "omnilmm":
        return _save_omnilmm(Path(folder))
    tiny_model(version).save_pretrained(folder)
    tiny_processor(version).save_pretrained(folder)
    return Path(folder)


def _save_omnilmm(folder: Path) -> Path:
    keys = json.loads((OMNILMM / "config.json").read_text(encoding="utf-8"))
    config = OmniLMMConfig(**keys | {"vision_config": TOWER | {"image_size": 28}, "initializer_range": 0.2})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        OmniLMMForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        shutil.copyfile(OMNILMM / name, folder / name)
    return folder
