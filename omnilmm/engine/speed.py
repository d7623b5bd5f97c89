"""Estimates how fast a model would generate on this machine, before it is downloaded.

Decoding one token reads all weights of the decoder once, so it is bound by memory bandwidth:

    seconds per token = bytes of the decoder in its dtype / (bandwidth · share) + layers · overhead

The bandwidth is measured in every process, which takes a fraction of a second. The share of it that decoding reaches
and the overhead per layer are in `PACES`: for a single answer at a time, through transformers. The estimates are meant
for choosing a model and are not guaranteed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from threading import Lock
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.engine.placement.layers import number_bytes
from omnilmm.hardware import compute_dtype

# Bytes read per measurement, more than the caches of a CPU or GPU hold. They are read in parts, the fastest of which
# counts, since other programs use the memory too; if those run for longer, later measurements correct the result.
MEASURED_BYTES, PARTS = 2**28, 8
MEASURING_S = 0.3
TIMES = 3
# Bytes per weight of llama.cpp's quantisations, which it uses for the head, too.
QUANT_BYTES = {"Q8_0": 1.0625, "Q6_K": 0.82, "Q5_K_M": 0.7125, "Q4_K_M": 0.6125}
LAYER_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.53}  # int4 with its scales
_MEASURED: dict[str, list[float]] = {}
_MEASURING = Lock()  # two concurrent measurements would each find half the bandwidth


@dataclass(frozen=True)
class Pace:
    """How fast a device decodes relative to its memory bandwidth.

    Attributes:
        share: share of the bandwidth that decoding reaches.
        overhead_s: seconds per decoder layer in addition to reading its weights.
    """

    share: float
    overhead_s: float


# On the CPU (Intel Xeon with AMX, 2 cores, torch 2.13): MiniCPM-V 2.0 in bf16 reached 0.49 of the bandwidth
# (benchmarks/RESULTS.md), a Qwen2 of 1.5 B 0.33 to 0.43, one of 0.5 B 0.68, and 0.97 in fp32. A CPU without bf16 units
# computes bf16 the way it computes fp16. Quantised weights are unpacked for every token. The figures of Qwen2 were
# measured once by hand (random weights, 2026-11, on a busy machine) and are good to the order of magnitude only.
# GPUs have not been measured. 0.7 is what compiled code reaches there (gpt-fast: 94 tokens/s, 8 B, A100); the overhead
# is for launching the kernels of each layer one by one.
PACES = {
    "cpu": {
        "fp32": Pace(0.8, 3e-4),
        "bf16": Pace(0.45, 3e-4),
        "fp16": Pace(0.2, 3e-4),
        "int8": Pace(0.2, 5e-4),
        "int4": Pace(0.2, 5e-4),
    },
    "cuda": {
        "fp32": Pace(0.7, 8e-4),
        "bf16": Pace(0.7, 8e-4),
        "fp16": Pace(0.7, 8e-4),
        "int8": Pace(0.3, 4e-3),
        "int4": Pace(0.3, 2e-3),
    },
    "mps": {
        "fp32": Pace(0.5, 1e-3),
        "bf16": Pace(0.5, 1e-3),
        "fp16": Pace(0.5, 1e-3),
        "int8": Pace(0.1, 4e-3),
        "int4": Pace(0.1, 4e-3),
    },
}


# llama.cpp: on the CPU above, a Qwen2 of 1.5 B with random weights reached 7.9 tokens/s in Q8_0 (0.57 of the bandwidth)
# and 11.5 in Q4_0 (0.44). Metal was not measured.
LLAMA_CPP_PACES = {
    "cpu": {"Q8_0": Pace(0.57, 1e-4), "Q6_K": Pace(0.44, 1e-4), "Q5_K_M": Pace(0.44, 1e-4), "Q4_K_M": Pace(0.44, 1e-4)},
    "mps": dict.fromkeys(QUANT_BYTES, Pace(0.6, 2e-4)),
}


def tokens_per_s(card: ModelCard, dtype: str, device: str) -> float | None:
    """Return about how many tokens per second a model would generate; None if that cannot be estimated.

    Args:
        card: the model's card.
        dtype: the dtype it would be loaded in, or the quantisation of a model in GGUF.
        device: as returned by `resolve_device`.
    """
    pace, speed = _pace(dtype, device), bandwidth(device)
    if card.decoder is None or pace is None or speed is None:
        return None
    if dtype in QUANT_BYTES:
        size = (card.decoder.layers + card.decoder.head) * QUANT_BYTES[dtype]
        return 1 / (size / (speed * pace.share) + card.decoder.depth * pace.overhead_s)
    size = card.decoder.layers * LAYER_BYTES[dtype] + card.decoder.head * number_bytes(dtype, device)
    return 1 / (size / (speed * pace.share) + card.decoder.depth * pace.overhead_s)


def bandwidth(device: str) -> float | None:
    """Return a device's memory read bandwidth in bytes per second; None if it is not known, as for "balanced".

    It is measured on the first `TIMES` calls, each of which takes a few tenths of a second.

    Args:
        device: as returned by `resolve_device`.
    """
    with _MEASURING:
        known = _MEASURED.setdefault(device, [])
        if len(known) < TIMES and (found := _measure(device)):
            known.append(found)
        return max(known, default=None)


def _measure(device: str) -> float | None:
    import torch

    try:
        parts = torch.ones(MEASURED_BYTES // 4, device=device).chunk(PARTS)
        seconds = min(_readings(parts))
    except (RuntimeError, MemoryError):  # not a single device, or no free memory on it
        return None
    return parts[0].nbytes / seconds


def _readings(parts: Sequence[Any]) -> Iterator[float]:
    """Yield the seconds it takes to read each tensor, cycling through them until `MEASURING_S` has passed."""
    until = time.perf_counter() + MEASURING_S
    for part in cycle(parts):
        yield _seconds(part)
        if time.perf_counter() > until:
            return


def _seconds(numbers: Any) -> float:
    """Return the seconds it takes to read a tensor once."""
    began = time.perf_counter()
    numbers.sum().item()  # `item` synchronises with an asynchronous device
    return time.perf_counter() - began


def _pace(dtype: str, device: str) -> Pace | None:
    if dtype in QUANT_BYTES:
        return LLAMA_CPP_PACES.get(device.partition(":")[0], {}).get(dtype)
    if device == "cpu" and dtype == "bf16" and compute_dtype("int8", device) != "bf16":
        dtype = "fp16"
    return PACES.get(device.partition(":")[0], {}).get(dtype)
