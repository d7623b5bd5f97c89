"""Baseline B, the physical limit: how fast this machine reads memory and multiplies matrices, measured now.

A token cannot come faster than its weights can be read, and a picture cannot be looked at faster than its matrices can
be multiplied.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

READ_BYTES = {"cpu": 2**28, "cuda": 2**32}
SIDE = {"cpu": 1024, "cuda": 8192}
RUNS = 7


def bytes_per_s(device: torch.device) -> float:
    """Reading a tensor that no cache holds."""
    tensor = torch.ones(READ_BYTES.get(device.type, 2**28) // 4, device=device)
    return tensor.nbytes / best_s(tensor.sum, device)


def operations_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplying two square matrices; a multiplication with its addition counts as two."""
    side = SIDE.get(device.type, 1024)
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best_s(lambda: one @ other, device)


def best_s(what: Callable[[], object], device: torch.device, runs: int = RUNS) -> float:
    """Seconds of the fastest of several runs: a limit is what can be reached."""
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
    """Wait for a device that works on its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
