"""How fast a model would answer on this machine, before it is fetched: the words a second that an offer names.

Every token of an answer takes reading all weights of the decoder once, so memory sets the pace:

    seconds per token = bytes of the decoder in its dtype / (bandwidth · share) + layers · overhead

The bandwidth is measured in every process, in a fraction of a second. Which share of it is reached, and what
a layer costs beside it, is in `PACES`: for one answer at a time, through transformers, as this program computes.
The figures are for choosing a model, they are no promise.
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

# So much is read to measure, more than the caches of a CPU or GPU hold; in parts, the fastest of which counts, since
# other programs read as well. What they take longer than that is found by measuring again later.
MEASURED_BYTES, PARTS = 2**28, 8
MEASURING_S = 0.3
TIMES = 3
LAYER_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.53}  # int4 with its scales
_MEASURED: dict[str, list[float]] = {}
_MEASURING = Lock()  # two at once would each find half


@dataclass(frozen=True)
class Pace:
    """How a device keeps up with its memory.

    Attributes:
        share: of the bandwidth that decoding reaches.
        overhead_s: of one decoder layer, beside reading its weights.
    """

    share: float
    overhead_s: float


# On the CPU (Intel Xeon with AMX, 2 cores, torch 2.13): MiniCPM-V 2.0 in bf16 reached 0.49 of the bandwidth
# (benchmarks/RESULTS.md), a Qwen2 of 1.5 B 0.33 to 0.43, one of 0.5 B 0.68, and 0.97 in fp32. A CPU without units for
# bf16 computes it as it computes fp16. Quantised weights are unpacked for every token. The figures of Qwen2 were
# measured once by hand (random weights, 2026-11, beside other work): good for the order, not for the value.
# GPUs have not been measured. 0.7 is what compiled code reaches there (gpt-fast: 94 tokens/s, 8 B, A100); beside it the
# kernels of each layer are called one by one.
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


def tokens_per_s(card: ModelCard, dtype: str, device: str) -> float | None:
    """Tokens a second of an answer, about; None where nothing is known.

    Args:
        card: of the model.
        dtype: in which it would be loaded.
        device: as from `resolve_device`.
    """
    pace, speed = _pace(dtype, device), bandwidth(device)
    if card.decoder is None or pace is None or speed is None:
        return None
    size = card.decoder.layers * LAYER_BYTES[dtype] + card.decoder.head * number_bytes(dtype, device)
    return 1 / (size / (speed * pace.share) + card.decoder.depth * pace.overhead_s)


def bandwidth(device: str) -> float | None:
    """Bytes a second that a device reads from its memory; None where that is not known, as for "balanced".

    Measured at the first calls, each of which takes some tenths of a second.

    Args:
        device: as from `resolve_device`.
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
    except (RuntimeError, MemoryError):  # no such single device, or no room on it now
        return None
    return parts[0].nbytes / seconds


def _readings(parts: Sequence[Any]) -> Iterator[float]:
    """Seconds of reading each of some tensors, again and again, until the time is over."""
    until = time.perf_counter() + MEASURING_S
    for part in cycle(parts):
        yield _seconds(part)
        if time.perf_counter() > until:
            return


def _seconds(numbers: Any) -> float:
    """Of reading a tensor once."""
    began = time.perf_counter()
    numbers.sum().item()  # waits for a device that works on its own
    return time.perf_counter() - began


def _pace(dtype: str, device: str) -> Pace | None:
    if device == "cpu" and dtype == "bf16" and compute_dtype("int8", device) != "bf16":
        dtype = "fp16"
    return PACES.get(device.partition(":")[0], {}).get(dtype)
