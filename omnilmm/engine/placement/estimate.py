"""Estimates how much memory a model needs.

The weights are counted exactly, on the meta device (`layers.py`). In addition there are the KV cache of the
conversation and the activations of one forward pass. The latter were measured by tracking every tensor in a pass of
each model at reduced width; the peak number of elements is at most

* vision tower: 4 vision widths and 3 MLP widths per patch;
* resampler: 8 language widths and 1 vision width per patch;
* prefill: 5 language widths and 3 MLP widths per token.

These run one after the other, so the largest counts. A quantised weight is dequantised while it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnilmm.engine.placement.layers import number_bytes, packed_modules, quantised_modules, tensor_sizes
from omnilmm.hardware import gib

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS = 4096  # of a long conversation; a shorter context counts as it is
LARGEST_PICTURE = (1344, 1344)  # the area that the published rules cut into the most slices
UNKNOWN_PATCHES = 10 * 1024  # for models with unknown slicing rules: as many as the largest picture of 2.5 has


@dataclass(frozen=True)
class Need:
    """The memory a model needs, in bytes.

    Attributes:
        weights: parameters and buffers.
        cache: KV cache of a long conversation.
        work: peak activations while encoding a large picture or prefilling a long prompt.
    """

    weights: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        """The sum of all three."""
        return self.weights + self.cache + self.work

    def __str__(self) -> str:
        parts = f"weights {gib(self.weights)}, conversation {gib(self.cache)}, working memory {gib(self.work)}"
        return f"{gib(self.total)} ({parts})"


def estimate(model: PreTrainedModel, dtype: str, device: str = "cuda", context: int = TOKENS) -> Need:
    """Estimate the memory a model needs in a dtype.

    Args:
        model: as returned by `skeleton`; its configuration specifies which modules are quantised.
        dtype: as returned by `resolve_dtype`.
        device: as returned by `resolve_device`; on the CPU the unquantised parts of quantised models may have another
            dtype.
        context: tokens of the conversation, of which at most `TOKENS` are counted.
    """
    number, tokens = number_bytes(dtype, device), min(context, TOKENS)
    quantised = quantised_modules(model, dtype, device) | packed_modules(model)[0]
    unpacked = max((model.get_submodule(name).weight.numel() for name in quantised), default=0)
    return Need(
        weights=sum(tensor_sizes(model, dtype, device).values()),
        cache=cache_bytes(model.config, dtype, device, tokens),
        work=(_numbers_in_flight(model.config, tokens) + unpacked) * number,
    )


def cache_bytes(config: PreTrainedConfig, dtype: str, device: str, tokens: int) -> int:
    """Return the size of the KV cache of so many tokens; layers with linear attention have none."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    numbers = 2 * sum("linear" not in kind for kind in kinds) * heads * width * tokens
    return int(numbers * number_bytes(dtype, device))


def _numbers_in_flight(config: PreTrainedConfig, tokens: int) -> int:
    """Return the peak number of activation elements in one forward pass; see the module docstring."""
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
    """Return the number of patches of the largest picture, with all slices padded to the largest one."""
    if not hasattr(config, "plan"):
        return UNKNOWN_PATCHES
    views = config.plan(LARGEST_PICTURE).sizes
    return int(len(views) * max(w * h for w, h in views) // config.vision_config.patch_size**2)
