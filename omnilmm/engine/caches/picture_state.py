"""What a model of transformers remembers of a conversation's pictures, kept between turns.

    prompt to the end of its last picture ── generate ──> memory ── a copy, and the rest ── generate ──> ids

Linear attention cannot forget the end of what it has read, so what is kept is the state right behind the last picture:
further questions about the same pictures go on from there, and a further picture means reading everything anew.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

# Architectures that were tested to say the same with such a memory as without; others read everything anew.
REUSING_STATE = {"minicpmv4_6", "minicpmv4_7", "qwen2_vl", "llava"}


class PictureState:
    """A prompt that was read up to its last picture; a `prefix.CachedPrefix`.

    Args:
        model: that reads.
        keys: of these tokens (see `prefix.py`).
    """

    def __init__(self, model: Any, keys: Sequence[Hashable]) -> None:
        self.model, self.keys = model, list(keys)
        self.cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        self.deltas: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Of keys, values and states."""
        held = (vars(layer).values() for layer in self.cache.layers)
        return sum(_nbytes(value) for values in held for value in values)

    def cut(self, length: int) -> bool:
        """There is no way to forget a part."""
        return length == len(self.keys)

    def read(self, inputs: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Read the beginning of a prompt; `generate` wants to say a word then, which is not read.

        Args:
            inputs: of the whole prompt.
            arguments: of `generate`.
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
        """Inputs of `generate` that read the rest; to be called right before it, where it will run.

        Args:
            inputs: of the whole prompt.
            rows: beams.
        """
        if hasattr(self.model.base_model, "rope_deltas"):  # of the pictures; the model keeps those it saw last
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
