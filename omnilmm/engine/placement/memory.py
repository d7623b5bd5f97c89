"""What a model takes, what is free, and what to do when the second is less than the first.

The weights are counted exactly, on a skeleton without memory (`anatomy.py`). Beside them lie the keys and values of the
conversation, and what one forward pass holds at once. The latter was measured, by following every tensor of a pass of
each model at reduced width; per number in flight, at most

* tower: 4 vision widths and 3 MLP widths per patch;
* resampler: 8 language widths and 1 vision width per patch;
* reading the prompt: 5 language widths and 3 MLP widths per token.

One after the other is at work, so the largest counts. A quantised weight is unpacked while it is multiplied by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilmm.catalog import BUILT_IN, ModelCard, cards
from omnilmm.engine.placement.layers import number_bytes, quantised_modules, skeleton, tensor_sizes
from omnilmm.errors import HardwareError, way_out, worded
from omnilmm.hardware import BALANCED, DTYPES, QUANTISED, Choice, gib, resolve_dtype

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS = 4096  # of a long conversation; more only where the card's context is shorter
LARGEST_PICTURE = (1344, 1344)  # the area that the published rules cut into most slices
UNKNOWN_PATCHES = 10 * 1024  # of a model that does not say how it cuts: as many as the largest picture of 2.5 has
LEAST_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}  # per parameter, scales left out
CGROUPS = Path("/sys/fs/cgroup")


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


def footprint(model: nn.Module) -> int:
    """Bytes that a loaded model really takes: parameters, buffers, and the scales of quantised weights.

    What lies on the disk (`device_map` "disk") does not count.
    """
    tensors: list[Any] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        weight = getattr(module, "weight", None)
        tensors += _state_tensors(getattr(weight, "quant_state", None))
        state = getattr(module, "state", None)  # where bitsandbytes moves the scales of int8 at the first pass
        tensors += [scales for holder in (weight, state) if (scales := getattr(holder, "SCB", None)) is not None]
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values() if not tensor.is_meta)


def free_memory(device: str) -> int | None:
    """Bytes free on a device, None where that is not known; "balanced" is all CUDA GPUs and the CPU together.

    On the CPU a container's limit counts. What torch keeps for reuse on a GPU is free.
    """
    import torch

    if device == BALANCED:
        parts = [free_memory(f"cuda:{index}") for index in range(torch.cuda.device_count())] + [free_memory("cpu")]
        return sum(part or 0 for part in parts)
    if device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return _free_of_cpu()


def check_fit(
    card: ModelCard,
    config: PreTrainedConfig,
    device: Choice,
    dtype: Choice,
    context: int | None = None,
    *,
    freed_bytes: int = 0,
) -> str | None:
    """Whether a model fits, before it is loaded.

    Args:
        card: of the model.
        config: of its checkpoint.
        device: as from `resolve_device`.
        dtype: as from `resolve_dtype`.
        context: tokens of a conversation, by default the card's.
        freed_bytes: that another model takes now, and that will be free.

    Returns:
        A warning for the log if only a long conversation or a large picture may not fit, else None.

    Raises:
        HardwareError: The weights alone are larger than what is free; the message says which settings fit.
    """
    free = free_memory(device.value)
    if free is None:
        return None
    free += freed_bytes
    model, tokens = skeleton(config), context or card.context
    need = need_of(model, dtype.value, device.value, tokens)
    if need.total <= free:
        return None
    ways = _smaller_dtypes(card, model, device.value, need, free, tokens)
    ways += _over_all_devices(device.value, dtype.value, need)
    ways += _smaller_models(card, dtype.value, device.value, free)
    lacking = f"{card.title} in {dtype.value} needs {gib(need.total)}, {gib(free)} are free on {device.value}"
    hint = f"try {_either(ways)}."
    if need.weights > free:
        raise HardwareError(f"{lacking}: {hint}")
    return worded(
        f"{lacking}. The weights ({gib(need.weights)}) fit, but a long conversation or a large picture may not: "
        f"if it fails, {hint}"
    )


def check_download(card: ModelCard, device: Choice, dtype: Choice, freed_bytes: int = 0) -> None:
    """Whether it is worth fetching: by the card alone, before there is a configuration to count from.

    Args:
        card: of the model.
        device: as from `resolve_device`.
        dtype: as from `resolve_dtype`.
        freed_bytes: that another model takes now, and that will be free.

    Raises:
        HardwareError: Even the bare weights are larger than what is free.
    """
    free = free_memory(device.value)
    least = (card.parameters or 0) * LEAST_BYTES[dtype.value]
    if free is None or least <= free + freed_bytes:
        return
    free += freed_bytes
    fitting = card.best_dtype(free / 2**30)
    ways = []
    if fitting in card.memory_gib:
        ways.append(f"{way_out('dtype', fitting)} ({card.memory_gib[fitting]:.1f} GiB)")
    ways += _smaller_models(card, dtype.value, device.value, free)
    raise HardwareError(
        f"{card.title} in {dtype.value} needs more than {gib(least)}, {gib(free)} are free on {device.value}: "
        f"try {_either(ways)}. Nothing was fetched."
    )


def _smaller_dtypes(
    card: ModelCard, model: PreTrainedModel, device: str, need: Need, free: int, context: int
) -> list[str]:
    """The largest dtype of this model that fits."""
    found = []
    for dtype in (*DTYPES, *QUANTISED):
        if not _can(dtype, device, card.stored):
            continue
        other = need_of(model, dtype, device, context)
        if other.total <= free and other.weights < need.weights:
            found.append((other.weights, f"{way_out('dtype', dtype)} ({gib(other.total)})"))
    # Of bf16 and fp16, which are equal, the first.
    return [max(found, key=lambda item: item[0])[1]] if found else []


def _over_all_devices(device: str, dtype: str, need: Need) -> list[str]:
    """The GPUs and the CPU together; quantised layers stay on GPUs."""
    if not device.startswith("cuda") or dtype in QUANTISED:
        return []
    together = free_memory(BALANCED)
    return [way_out("device", BALANCED)] if together and need.total <= together else []


def _smaller_models(card: ModelCard, dtype: str, device: str, free: int) -> list[str]:
    """The largest known model that fits, in this dtype if possible."""
    own_size = card.parameters or math.inf
    smaller = [c for c in cards().values() if c.name != card.name and (c.parameters or math.inf) < own_size]
    for others in ([c for c in reversed(smaller) if c.name != BUILT_IN], smaller):  # the built-in one is no substitute
        for requested in dict.fromkeys((dtype, *reversed(QUANTISED))):
            for other in others:
                sizes: dict[str, float] = dict(other.memory_gib.items())
                if sizes.get(requested, math.inf) * 2**30 <= free and _can(requested, device, other.stored):
                    is_same = requested in (dtype, other.stored)
                    way = way_out("model", other.name) if is_same else way_out("model_in", other.name, requested)
                    return [f"{way} ({sizes[requested]:.1f} GiB)"]
    return [way_out("smaller")]


def _either(ways: list[str]) -> str:
    return f" {way_out('or')} ".join(ways)


def _can(dtype: str, device: str, stored: str) -> bool:
    try:
        resolve_dtype(dtype, device, stored)
    except HardwareError:
        return False
    return True


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


def _state_tensors(state: Any) -> list[Tensor]:
    """What bitsandbytes keeps beside an int4 weight: scales, their own scales, tables."""
    if state is None:
        return []
    nested = getattr(state, "state2", None)
    candidates = (state.absmax, state.code, getattr(state, "offset", None), *_state_tensors(nested))
    return [tensor for tensor in candidates if tensor is not None]


def _free_of_cpu() -> int | None:
    """What the machine has left, or what the container may still take."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return None
    return min([psutil.virtual_memory().available, *_rooms_of_container()])


def _rooms_of_container() -> list[int]:
    """Limit less use of a cgroup, version 2 or 1; cached files do not count as use. Empty without a limit."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = int((CGROUPS / limit).read_text()), int((CGROUPS / used).read_text())
            statistics = (CGROUPS / used).with_name("memory.stat").read_text().split()
            return [most - now + int(statistics[statistics.index(cached) + 1])]
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return []
