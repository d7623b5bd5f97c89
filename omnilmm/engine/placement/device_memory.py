"""Measures the free memory of a device and the memory a loaded model occupies; gives back what none occupies."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilmm.hardware import BALANCED

if TYPE_CHECKING:
    from torch import Tensor, nn

CGROUPS = Path("/sys/fs/cgroup")


def footprint(model: nn.Module) -> int:
    """Return the bytes a loaded model occupies: parameters, buffers, and the scales of quantised weights.

    Weights offloaded to disk (`device_map` "disk") do not count.
    """
    tensors: list[Any] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        weight = getattr(module, "weight", None)
        tensors += _state_tensors(getattr(weight, "quant_state", None))
        state = getattr(module, "state", None)  # bitsandbytes moves int8 scales here in the first forward pass
        tensors += [scales for holder in (weight, state) if (scales := getattr(holder, "SCB", None)) is not None]
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values() if not tensor.is_meta)


def free_memory(device: str) -> int | None:
    """Return the free bytes on a device, None if not known; "balanced" means all CUDA GPUs and the CPU together.

    On the CPU a container's limit is respected. GPU memory that torch has reserved but not allocated counts as free.
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


def give_back_unused_memory() -> None:
    """Give the system back what allocators keep of memory that is free: torch's on GPUs, and glibc's.

    After some answers and changes of the model, glibc keeps a hundred megabytes in pieces between those in use.
    """
    if "torch" in sys.modules:
        import torch  # which waits, if another thread is importing it

        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _state_tensors(state: Any) -> list[Tensor]:
    """Return the tensors bitsandbytes stores with an int4 weight: scales, their own scales, code tables."""
    if state is None:
        return []
    nested = getattr(state, "state2", None)
    candidates = (state.absmax, state.code, getattr(state, "offset", None), *_state_tensors(nested))
    return [tensor for tensor in candidates if tensor is not None]


def _free_of_cpu() -> int | None:
    """Return the memory available on the machine, or left to the container if that is less."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return None
    return min([psutil.virtual_memory().available, *_rooms_of_container()])


def _rooms_of_container() -> list[int]:
    """Return the memory a cgroup (v2 or v1) has left, not counting the file cache as used; empty without a limit."""
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
