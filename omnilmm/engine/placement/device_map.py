"""Computes the device map of a model.

"balanced" spreads one model over several devices. The device maps of transformers (`device_map="auto"`) fill one device
after the other in the order of the modules, so that the head ends up on the last one and the vision tower may be split;
the published recipes for two GPUs correct that by hand, but then no longer take the memory into account. Here,
everything except the decoder layers is placed on the first device, whole layers follow in order, and every accelerator
keeps the same amount of memory free. A layer's KV cache counts with the layer, working memory with the first device.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omnilmm.engine.placement.bitsandbytes import prepare_bitsandbytes, quantisation
from omnilmm.engine.placement.device_memory import free_memory
from omnilmm.engine.placement.estimate import TOKENS, estimate
from omnilmm.engine.placement.layers import (
    decoder_layers,
    modules_to_not_convert,
    outside_layers,
    skeleton,
    tensor_sizes,
)
from omnilmm.errors import HardwareError, OptionsError
from omnilmm.hardware import BALANCED, DTYPES, QUANTISED, compute_dtype, gib, use_dtype
from omnilmm.sentences import Sentence

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Device = int | str  # a CUDA GPU's number, "cpu" or "disk"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
SPILL = ("cpu", "disk")  # offload targets, used in this order if the GPUs are full
SHARE = 0.9  # of the free memory: the rest is lost to fragmentation


def from_pretrained_arguments(
    config: PreTrainedConfig,
    device: str,
    dtype: str,
    max_memory: Mapping[Device, int | str] | None = None,
    context: int = TOKENS,
) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that place a model: `dtype`, `device_map`, `quantization_config`.

    After loading, call `bitsandbytes.finalize_quantized_model` on the model.

    Args:
        config: configuration of the checkpoint.
        device: as returned by `resolve_device`.
        dtype: as returned by `resolve_dtype`.
        max_memory: for "balanced", the memory the model may use on each device; by default see `device_map`.
        context: tokens of a conversation.

    Raises:
        HardwareError: It does not fit into the devices' memory, or `max_memory` names a GPU that does not exist.
        OptionsError: `max_memory` is given for another device than "balanced".
    """
    import torch

    if max_memory and device != BALANCED:
        raise OptionsError("memory_limit_without_balanced", device=device)
    _check_gpus(max_memory or {})
    compute = compute_dtype(dtype, device)
    arguments: dict[str, Any] = {"dtype": getattr(torch, DTYPES[compute])}
    stored_quantised = getattr(config, "quantization_config", None) is not None
    if dtype in QUANTISED and not stored_quantised:
        arguments["quantization_config"] = quantisation(dtype, compute, modules_to_not_convert(skeleton(config)))
    elif stored_quantised:
        prepare_bitsandbytes()
    if device == BALANCED:
        arguments["device_map"] = device_map(config, max_memory, dtype, context)
    else:
        arguments["device_map"] = {"": device}
    return arguments


def _check_gpus(max_memory: Mapping[Device, int | str]) -> None:
    import torch

    count = torch.cuda.device_count()
    strange = [device for device in max_memory if isinstance(device, int) and device >= count]
    if strange:
        raise HardwareError("memory_limit_of_no_gpu", gpus=strange, count=count)


def parse_max_memory(text: str) -> dict[Device, int]:
    """Parse the flag --max-memory, e.g. "0=10GiB,1=10GiB,cpu=20GiB", into bytes per device.

    Raises:
        OptionsError: Lists all parts that cannot be parsed.
    """
    found: dict[Device, int] = {}
    problems = []
    for part in text.split(","):
        name, equals, size = (piece.strip() for piece in part.partition("="))
        if not equals or not (name.isdecimal() or name in SPILL):
            problems.append(Sentence("no_device_and_size", given=part.strip()))
            continue
        device = int(name) if name.isdecimal() else name
        if device in found:
            problems.append(Sentence("device_named_twice", device=name))
        try:
            found[device] = parse_size(size)
        except OptionsError as error:
            problems.append(error.sentence)
    if problems:
        raise OptionsError("memory_limits_unreadable", problems=problems)
    return found


def parse_size(text: str) -> int:
    """Parse a size like "10GiB" into bytes.

    Raises:
        OptionsError: It is not a positive number with a unit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B)", text.strip(), re.IGNORECASE)
    units = {unit.lower(): size for unit, size in UNITS.items()}
    size = int(float(match[1]) * units[match[2].lower()]) if match else 0
    if not size:
        raise OptionsError("no_size", given=text, units=list(UNITS))
    return size


def device_map(
    config: PreTrainedConfig,
    max_memory: Mapping[Device, int | str] | None = None,
    dtype: str = "bf16",
    context: int = TOKENS,
) -> dict[str, Device]:
    """Return the "balanced" placement of a model, in the format of transformers' and accelerate's `device_map`.

    Args:
        config: configuration of the checkpoint, of any class whose decoder layers are siblings of its token embeddings.
        max_memory: the memory the model may use on each device, in bytes or as "10GiB"; by default nine tenths of what
            is free on all CUDA GPUs and the CPU. With "disk", `from_pretrained` needs an `offload_folder`.
        dtype: as returned by `resolve_dtype`. Quantised layers are placed on GPUs only, if there are any.
        context: tokens of a conversation.

    Returns:
        Mapping from module name to device.

    Raises:
        HardwareError: It does not fit; the message has the numbers.
    """
    limits = _limits(max_memory)
    if dtype in QUANTISED:
        limits = {device: size for device, size in limits.items() if device not in SPILL} or limits
    model = skeleton(config)
    kind = "cpu" if set(limits) <= set(SPILL) else "cuda"
    need, sizes = estimate(model, dtype, kind, context), tensor_sizes(model, dtype, kind)
    name, layers = decoder_layers(model)
    weights = [sum(size for key, size in sizes.items() if key.startswith(f"{name}.{i}.")) for i in range(len(layers))]
    together = need.weights - sum(weights) + need.work
    places = _assign(together, weights, need.cache, limits)
    if places is None:
        names = {key: f"cuda:{key}" if isinstance(key, int) else key for key in limits}
        raise HardwareError(
            "does_not_fit_together",
            kind=type(model).__name__,
            dtype=dtype,
            needed=gib(need.total),
            together=gib(together),
            given=[Sentence("size_on_device", size=gib(size), device=names[key]) for key, size in limits.items()],
            more=Sentence("allow_more_memory"),
            ways=[use_dtype("int4"), Sentence("use_smaller_model")],
        )
    first = next(iter(limits))
    return dict.fromkeys(outside_layers(model), first) | {f"{name}.{i}": place for i, place in enumerate(places)}


def _limits(max_memory: Mapping[Device, int | str] | None) -> dict[Device, int]:
    """Return the bytes available per device: GPUs in order, then the CPU, then the disk."""
    import torch

    if not max_memory:
        gpus: list[Device] = list(range(torch.cuda.device_count()))
        free: dict[Device, int] = {gpu: free_memory(f"cuda:{gpu}") or 0 for gpu in gpus}
        free |= {"cpu": free_memory("cpu") or 0}
        return {device: int(SHARE * size) for device, size in free.items()}
    given = {device: parse_size(size) if isinstance(size, str) else size for device, size in max_memory.items()}
    order = sorted(device for device in given if isinstance(device, int))
    return {device: given[device] for device in (*order, *SPILL) if device in given}


def _assign(together: int, weights: Sequence[int], cache: int, limits: Mapping[Device, int]) -> list[Device] | None:
    """Assign a device to each layer; None if they do not fit.

    Layers go to the accelerators first, leaving the same amount free on each. Layers offloaded to the CPU or the disk
    are still computed on the first device, so their KV cache and one layer at a time take memory there.
    """
    first = next(iter(limits))
    rooms = {device: size - (together if device == first else 0) for device, size in limits.items()}
    layers = [size + cache // len(weights) for size in weights]
    accelerators = {device: room for device, room in rooms.items() if device not in SPILL}
    placed = _fill(layers, accelerators)
    if len(placed) < len(layers):
        rooms[first] -= cache + max(weights)
        placed = _fill(layers, rooms)
        return placed if len(placed) == len(layers) and rooms[first] >= 0 else None
    low, high = 0, max(accelerators.values())
    while low + 1 < high:  # binary search for the largest amount that can be left free on each
        spare = (low + high) // 2
        evenly = _fill(layers, {device: room - spare for device, room in accelerators.items()})
        if len(evenly) == len(layers):
            low, placed = spare, evenly
        else:
            high = spare
    return placed if rooms[first] >= 0 else None


def _fill(layers: Sequence[int], rooms: Mapping[Device, int]) -> list[Device]:
    """Assign devices to as many layers as fit, filling one device after the other."""
    placed: list[Device] = []
    for device, room in rooms.items():
        used = 0
        while len(placed) < len(layers) and used + layers[len(placed)] <= room:
            used += layers[len(placed)]
            placed.append(device)
    return placed
