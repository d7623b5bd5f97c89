"""Estimates the memory that training needs with each method; computed, not measured.

- weights: as they are loaded (LoRA: half precision; QLoRA: 4 bits; full: float32, computed in half precision)
- of every trained parameter: its gradient and two moments of AdamW in float32, and LoRA's own float32 weights
- activations with checkpointing: the input of every decoder layer, one layer forward and backward, and the logits of
  the longest batch in float32 with their gradient
- a frozen tower encodes pictures beforehand, which takes what it takes in inference
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omnilmm.engine.placement.device_memory import free_memory
from omnilmm.engine.placement.estimate import estimate
from omnilmm.engine.placement.layers import number_bytes, tensor_sizes
from omnilmm.training.targets import METHODS, Method, Tuning, trained_parameters

LOADED = {"lora": "bf16", "qlora": "int4", "full": "fp32"}
STATE_BYTES = {"lora": 16, "qlora": 16, "full": 12}  # per trained parameter, beside the loaded weights


@dataclass(frozen=True)
class Memory:
    """What training with a method needs, in bytes.

    Attributes:
        method: the method.
        trained: number of trained parameters.
        weights, states, activations: its parts.
        free: what is free on the device; None if not known.
    """

    method: Method
    trained: int
    weights: int
    states: int
    activations: int
    free: int | None

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.weights + self.states + self.activations

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None if the free memory is not known."""
        return None if self.free is None else self.total <= self.free


def memory_of(model: Any, tuning: Tuning, tokens: int, device: str, loaded: str | None = None) -> Memory:
    """Estimate what a method needs.

    Args:
        model: model without data, from `layers.skeleton`.
        tuning: the method and what it trains.
        tokens: tokens of the largest batch, padding included.
        device: device of the training.
        loaded: dtype of the weights, where it is not the usual one of the method.
    """
    dtype = loaded or LOADED[tuning.method]
    trained = trained_parameters(model, tuning)
    text = model.config.get_text_config()
    number = 2 if dtype == "fp32" and not device.startswith("cpu") else number_bytes(dtype, device)
    layer = tokens * (8 * text.hidden_size + 4 * text.intermediate_size)
    kept = tokens * text.hidden_size * text.num_hidden_layers
    logits = tokens * text.vocab_size * (number + 8)
    work = max((kept + layer) * number + logits, estimate(model, dtype, device, tokens).work)
    return Memory(
        tuning.method,
        trained,
        sum(tensor_sizes(model, dtype, device).values()),
        trained * STATE_BYTES[tuning.method],
        work,
        free_memory(device),
    )


def memories(model: Any, tuning: Tuning, tokens: int, device: str) -> list[Memory]:
    """Estimate every method, with the other settings of `tuning`."""
    from dataclasses import replace

    return [memory_of(model, replace(tuning, method=method), tokens, device) for method in METHODS]
