"""Baseline B, the hardware limit: measured memory bandwidth and matrix multiplication rate of this machine.

Decoding a token cannot be faster than reading its weights, and encoding a picture cannot be faster than its matrix
multiplications.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

READ_BYTES = {"cpu": 2**28, "cuda": 2**32}
SIDE = {"cpu": 1024, "cuda": 8192}
RUNS = 7


def bytes_per_s(device: torch.device) -> float:
    """Measure the memory bandwidth by summing a tensor of `READ_BYTES`, meant to be larger than the caches."""
    tensor = torch.ones(READ_BYTES.get(device.type, 2**28) // 4, device=device)
    return tensor.nbytes / best_s(tensor.sum, device)


def operations_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the FLOP/s of multiplying two square matrices; a multiply-add counts as two."""
    side = SIDE.get(device.type, 1024)
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best_s(lambda: one @ other, device)


def best_s(what: Callable[[], object], device: torch.device, runs: int = RUNS) -> float:
    """Return the seconds of the fastest of several runs, as the limit is what can be reached."""
    what()
    found = []
    for _ in range(runs):
        finish(device)
        began = time.perf_counter()
        what()
        finish(device)
        found.append(time.perf_counter() - began)
    return min(found)


def finish(device: torch.device) -> None:
    """Wait until an asynchronous device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
