"""How much memory is free on a device, and how much a loaded model takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilmm.hardware import BALANCED

if TYPE_CHECKING:
    from torch import Tensor, nn

CGROUPS = Path("/sys/fs/cgroup")


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
