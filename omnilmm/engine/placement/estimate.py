"""How much memory a model takes.

The weights are counted exactly, on a skeleton without memory (`layers.py`). Beside them lie the keys and values of the
conversation, and what one forward pass holds at once. The latter was measured, by following every tensor of a pass of
each model at reduced width; per number in flight, at most

* tower: 4 vision widths and 3 MLP widths per patch;
* resampler: 8 language widths and 1 vision width per patch;
* reading the prompt: 5 language widths and 3 MLP widths per token.

One after the other is at work, so the largest counts. A quantised weight is unpacked while it is multiplied by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnilmm.engine.placement.layers import number_bytes, quantised_modules, skeleton, tensor_sizes
from omnilmm.hardware import gib

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS = 4096  # of a long conversation; more only where the card's context is shorter
LARGEST_PICTURE = (1344, 1344)  # the area that the published rules cut into most slices
UNKNOWN_PATCHES = 10 * 1024  # of a model that does not say how it cuts: as many as the largest picture of 2.5 has


@dataclass(frozen=True)
class Need:
    """What a model takes, in bytes.

    Attributes:
        weights: parameters and tables.
        cache: keys and values of a long conversation.
        work: what looking at a large picture, or reading a long prompt, holds at once.
    """

    weights: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.work

    def __str__(self) -> str:
        parts = f"weights {gib(self.weights)}, conversation {gib(self.cache)}, working memory {gib(self.work)}"
        return f"{gib(self.total)} ({parts})"


def estimate(config: PreTrainedConfig, dtype: str, *, device: str = "cuda", context: int = TOKENS) -> Need:
    """What a model takes in a dtype.

    Args:
        config: its configuration; a quantised checkpoint's says itself what is quantised.
        dtype: as from `resolve_dtype`.
        device: as from `resolve_device`; on the CPU quantised models may have other parts in other types.
        context: tokens of the conversation, of which at most `TOKENS` are counted.
    """
    return need_of(skeleton(config), dtype, device, context)


def need_of(model: PreTrainedModel, dtype: str, device: str, context: int = TOKENS) -> Need:
    """As `estimate`, of a skeleton."""
    number, tokens = number_bytes(dtype, device), min(context, TOKENS)
    quantised = quantised_modules(model, dtype, device)
    unpacked = max((model.get_submodule(name).weight.numel() for name in quantised), default=0)
    return Need(
        weights=sum(tensor_sizes(model, dtype, device).values()),
        cache=_cached_numbers(model.config, tokens) * number,
        work=(_numbers_in_flight(model.config, tokens) + unpacked) * number,
    )


def _cached_numbers(config: PreTrainedConfig, tokens: int) -> int:
    """Keys and values of all layers that keep any."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    return int(2 * sum("linear" not in kind for kind in kinds) * heads * width * tokens)


def _numbers_in_flight(config: PreTrainedConfig, tokens: int) -> int:
    """The most that one forward pass holds at once; see the text of the module."""
    text, vision = config.get_text_config(), getattr(config, "vision_config", None)
    width, mlp = text.hidden_size, getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    vision_width = getattr(vision, "hidden_size", 0)
    vision_mlp = getattr(vision, "intermediate_size", 4 * vision_width)
    patches = _patches(config)
    return int(
        max(
            patches * (4 * vision_width + 3 * vision_mlp),
            patches * (8 * width + vision_width),
            tokens * (5 * width + 3 * mlp),
        )
    )


def _patches(config: PreTrainedConfig) -> int:
    """Of the largest picture, all slices padded to the longest."""
    if not hasattr(config, "plan"):
        return UNKNOWN_PATCHES
    views = config.plan(LARGEST_PICTURE).sizes
    return int(len(views) * max(w * h for w, h in views) // config.vision_config.patch_size**2)
