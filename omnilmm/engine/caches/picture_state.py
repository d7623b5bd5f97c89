"""The state of a transformers model after a conversation's pictures, cached between turns.

    prompt to the end of its last picture ── generate ──> state ── a copy, and the rest ── generate ──> ids

The state of linear attention cannot be truncated, so the state right after the last picture is cached: further
questions about the same pictures continue from there, and after a new picture the whole prompt is prefilled again.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

# Architectures tested to give the same answers with a cached state as without; others prefill the whole prompt.
REUSING_STATE = {"minicpmv4_6", "minicpmv4_7", "qwen2_vl", "llava"}


class PictureState:
    """The state after a prompt's last picture; implements `prefix.CachedPrefix`.

    Args:
        model: the model.
        keys: keys of the tokens up to there (see `prefix.py`).
    """

    def __init__(self, model: Any, keys: Sequence[Hashable]) -> None:
        self.model, self.keys = model, list(keys)
        self.cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        self.deltas: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The number of bytes the KV cache and the states of linear attention occupy."""
        held = (vars(layer).values() for layer in self.cache.layers)
        return sum(_nbytes(value) for values in held for value in values)

    def cut(self, length: int) -> bool:
        """Return whether the state has exactly this length, as it cannot be truncated."""
        return length == len(self.keys)

    def prefill(self, inputs: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Prefill the beginning of a prompt; `generate` must produce one token, which does not enter the cache.

        Args:
            inputs: inputs of the whole prompt.
            arguments: arguments of `generate`.
        """
        size = inputs["input_ids"].shape
        begin = {
            name: value[:, : len(self.keys)] if getattr(value, "shape", None) == size else value
            for name, value in inputs.items()
        }
        once = GenerationConfig(**arguments | {"max_new_tokens": 1, "num_beams": 1, "do_sample": False})
        self.model.generate(**begin, past_key_values=self.cache, generation_config=once)
        self.deltas = getattr(self.model.base_model, "rope_deltas", None)

    def continue_inputs(self, inputs: dict[str, Any], rows: int) -> dict[str, Any]:
        """Return the inputs with which `generate` continues from this state; call right before it, on its thread.

        Args:
            inputs: inputs of the whole prompt.
            rows: number of beams.
        """
        if hasattr(self.model.base_model, "rope_deltas"):  # the model keeps those of the last prompt
            self.model.base_model.rope_deltas = self.deltas
        cache = copy.deepcopy(self.cache)
        if rows > 1:
            cache.reorder_cache(torch.zeros(rows, dtype=torch.long, device=self.model.device))
        size = inputs["input_ids"].shape
        words = {name: value for name, value in inputs.items() if getattr(value, "shape", None) == size}
        return words | {"past_key_values": cache}


def _nbytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, list | tuple) else 0
