"""Checks whether a model fits into memory, and suggests settings or models that do if it does not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from omnilmm.catalog import BUILT_IN, ModelCard, cards
from omnilmm.engine.placement import device_memory
from omnilmm.engine.placement.estimate import Need, estimate
from omnilmm.engine.placement.layers import skeleton
from omnilmm.errors import HardwareError
from omnilmm.hardware import BALANCED, DTYPES, QUANTISED, Choice, gib, resolve_dtype, use_device, use_dtype
from omnilmm.sentences import Sentence

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LEAST_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}  # per parameter, without scales


def check_fit(
    card: ModelCard,
    config: PreTrainedConfig,
    device: Choice,
    dtype: Choice,
    context: int | None = None,
    *,
    freed_bytes: int = 0,
) -> Sentence | None:
    """Check whether a model fits before it is loaded.

    Args:
        card: the model's card.
        config: configuration of its checkpoint.
        device: as returned by `resolve_device`.
        dtype: as returned by `resolve_dtype`.
        context: tokens of a conversation, by default the card's.
        freed_bytes: memory that another model occupies now and that will be free.

    Returns:
        A warning for the log if only a long conversation or a large picture may not fit, else None.

    Raises:
        HardwareError: The weights alone exceed the free memory; the message lists settings that fit.
    """
    free = device_memory.free_memory(device.value)
    if free is None:
        return None
    free += freed_bytes
    model, tokens = skeleton(config), context or card.context
    need = estimate(model, dtype.value, device.value, tokens)
    if need.total <= free:
        return None
    ways = _smaller_dtypes(card, model, device.value, need, free, tokens)
    ways += _over_all_devices(device.value, dtype.value, need)
    ways += _smaller_models(card, dtype.value, device.value, free)
    needed, there = gib(need.total), gib(free)
    if need.weights > free:
        raise HardwareError(
            "does_not_fit",
            title=card.title,
            dtype=dtype.value,
            needed=needed,
            free=there,
            device=device.value,
            ways=ways,
        )
    return Sentence(
        "fits_tightly",
        title=card.title,
        dtype=dtype.value,
        needed=needed,
        free=there,
        device=device.value,
        weights=gib(need.weights),
        ways=ways,
    )


def check_download(card: ModelCard, device: Choice, dtype: Choice, freed_bytes: int = 0) -> None:
    """Check from the card alone whether a model can fit, before its configuration is downloaded.

    Args:
        card: the model's card.
        device: as returned by `resolve_device`.
        dtype: as returned by `resolve_dtype`.
        freed_bytes: memory that another model occupies now and that will be free.

    Raises:
        HardwareError: The weights alone, without scales, exceed the free memory.
    """
    free = device_memory.free_memory(device.value)
    least = (card.parameters or 0) * LEAST_BYTES[dtype.value]
    if free is None or least <= free + freed_bytes:
        return
    free += freed_bytes
    fitting = card.best_dtype(free / 2**30)
    ways = []
    if fitting in card.memory_gib:
        ways.append(_of_size(use_dtype(fitting), card.memory_gib[fitting] * 2**30))
    ways += _smaller_models(card, dtype.value, device.value, free)
    raise HardwareError(
        "download_does_not_fit",
        title=card.title,
        dtype=dtype.value,
        needed=gib(least),
        free=gib(free),
        device=device.value,
        ways=ways,
    )


def _smaller_dtypes(
    card: ModelCard, model: PreTrainedModel, device: str, need: Need, free: int, context: int
) -> list[Sentence]:
    """Suggest the largest smaller dtype of this model that fits."""
    found = []
    for dtype in (*DTYPES, *QUANTISED):
        if not _can(dtype, device, card.stored):
            continue
        other = estimate(model, dtype, device, context)
        if other.total <= free and other.weights < need.weights:
            found.append((other.weights, _of_size(use_dtype(dtype), other.total)))
    # bf16 and fp16 have the same size; `max` returns the first.
    return [max(found, key=lambda item: item[0])[1]] if found else []


def _over_all_devices(device: str, dtype: str, need: Need) -> list[Sentence]:
    """Suggest all GPUs and the CPU together; not for quantised models, whose layers stay on GPUs."""
    if not device.startswith("cuda") or dtype in QUANTISED:
        return []
    together = device_memory.free_memory(BALANCED)
    return [use_device(BALANCED)] if together and need.total <= together else []


def _smaller_models(card: ModelCard, dtype: str, device: str, free: int) -> list[Sentence]:
    """Suggest the largest smaller model of the catalog that fits, in this dtype if possible."""
    own_size = card.parameters or math.inf
    smaller = [c for c in cards().values() if c.name != card.name and (c.parameters or math.inf) < own_size]
    largest = sorted(smaller, key=lambda c: c.parameters or 0, reverse=True)  # of equal ones the first by name
    for others in ([c for c in largest if c.name != BUILT_IN], smaller):  # the built-in model comes last
        for requested in dict.fromkeys((dtype, *reversed(QUANTISED))):
            for other in others:
                sizes: dict[str, float] = dict(other.memory_gib.items())
                if sizes.get(requested, math.inf) * 2**30 <= free and _can(requested, device, other.stored):
                    is_same = requested in (dtype, other.stored)
                    return [_of_size(_use_model(other, None if is_same else requested), sizes[requested] * 2**30)]
    return [Sentence("use_smaller_model")]


def _use_model(card: ModelCard, dtype: str | None) -> Sentence:
    if dtype is None:
        return Sentence("use_model", model=card.name, title=card.title)
    return Sentence("use_model_in", model=card.name, title=card.title, dtype=dtype)


def _of_size(way: Sentence, size: float) -> Sentence:
    return Sentence("way_of_size", way=way, size=gib(size))


def _can(dtype: str, device: str, stored: str) -> bool:
    try:
        resolve_dtype(dtype, device, stored)
    except HardwareError:
        return False
    return True
