"""Which device and which dtype, and why: every choice carries its reason.

Nothing is detected at import. `auto` falls back and says so; an explicit request that cannot be met is an error that
says what can. "balanced" is no device of torch: one model split over all CUDA GPUs and the CPU (`engine/placement/`).

What bitsandbytes can do is from its 0.50.2: int8 and int4 on CUDA from capability 6.0, on Metal and on every CPU.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from omnilmm.errors import HardwareError
from omnilmm.sentences import Sentence

DEVICES = "auto, cpu, cuda, cuda:N, mps or balanced (split over all CUDA GPUs, the rest offloaded to CPU)"
BALANCED = "balanced"
AS_ASKED = Sentence("as_requested")  # the reason of what a user chose
# What weights are kept and computed in, and torch's name for it.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# What weights are kept in only; see `compute_dtype`.
QUANTISED = ("int8", "int4")
DTYPE_CHOICES = ", ".join(("auto", *DTYPES, *QUANTISED))
# From so many parameters on, bf16 is faster on a CPU with AMX. Measured on an Intel Xeon at 2.1 GHz, 2 cores, torch
# 2.13: at 514 million it reads a prompt of 700 tokens in 0.72 s instead of 2.79 s and writes a token in 66 ms instead
# of 93 ms; at 6 million fp32 is faster, 333 against 203 tokens/s.
LARGE = 100_000_000
# Below it a GPU has no bf16; below the second one bitsandbytes has no kernels.
BF16_CAPABILITY = (8, 0)
QUANTISED_CAPABILITY = (6, 0)
# How errors of torch say that there was no more memory, where they are of no class of their own (CPU, Metal, cuBLAS).
OUT_OF_MEMORY = ("can't allocate", "not enough memory", "out of memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class Choice:
    """A value and the reason why it was chosen."""

    value: str
    reason: Sentence

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def prepare_environment(requested: str = "auto") -> bool:
    """Let what Metal cannot compute be computed by the CPU instead of failing.

    torch reads `PYTORCH_ENABLE_MPS_FALLBACK` once, while its library is loaded (a static of its MPSFallback.mm): call
    this before the first `import torch` of the process. A value that the user has set stays.

    Args:
        requested: as for `resolve_device`, which imports torch and so comes too late.

    Returns:
        Whether it can have an effect: false if torch is loaded already, and where Metal is out of the question.
    """
    if sys.platform != "darwin" or requested not in ("auto", "mps"):
        return False
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    return "torch" not in sys.modules


def resolve_device(requested: str = "auto") -> Choice:
    """The device to run on.

    Args:
        requested: "auto", "cpu", "cuda", "cuda:N", "mps" or "balanced".

    Raises:
        HardwareError: No such device here.
    """
    import torch

    cuda_count = _cuda_count()
    has_mps = torch.backends.mps.is_available()
    here = ["cpu"] + [f"cuda:{index}" for index in range(cuda_count)] + ["mps"] * has_mps
    if requested == "auto":
        if cuda_count:
            return Choice("cuda", Sentence("cuda_available", name=torch.cuda.get_device_name(0)))
        if has_mps:
            return Choice("mps", Sentence("metal_available"))
        return Choice("cpu", Sentence("no_accelerator"))
    if requested == BALANCED and cuda_count:
        is_one = cuda_count == 1
        return Choice(BALANCED, Sentence("split_over_gpu") if is_one else Sentence("split_over_gpus", count=cuda_count))
    if requested in here or (requested == "cuda" and cuda_count):
        return Choice(requested, AS_ASKED)
    kind, _, index = requested.partition(":")
    if requested != BALANCED and (kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit())):
        raise HardwareError("unknown_device", device=requested, expected=DEVICES)
    raise HardwareError(
        "nothing_to_balance" if requested == BALANCED else "no_such_device",
        device=requested,
        here=here,
        way=use_device("auto"),
    )


def use_device(device: str) -> Sentence:
    """The way out of an error that is another device."""
    return Sentence("use_device_auto") if device == "auto" else Sentence("use_device", device=device)


def use_dtype(dtype: str) -> Sentence:
    """The way out of an error that is another dtype."""
    return Sentence("use_dtype_auto") if dtype == "auto" else Sentence("use_dtype", dtype=dtype)


def resolve_dtype(
    requested: str = "auto", device: str = "cpu", stored: str = "bf16", parameters: int | None = None
) -> Choice:
    """The dtype of the weights.

    Args:
        requested: "auto", a key of `DTYPES` or one of `QUANTISED`.
        device: as from `resolve_device`.
        stored: dtype of the checkpoint's files. A quantised one is loaded as it is.
        parameters: of the model, None where they are not known: it counts as a large one.

    Raises:
        HardwareError: The device cannot compute with it, or the checkpoint cannot be loaded in it.
    """
    if requested not in ("auto", *DTYPES, *QUANTISED):
        raise HardwareError("unknown_dtype", dtype=repr(requested), expected=DTYPE_CHOICES)
    if stored in QUANTISED and requested not in ("auto", stored):
        raise HardwareError("stored_quantised", stored=stored, dtype=requested, way=use_dtype("auto"))
    if requested == "auto" and stored not in QUANTISED:
        return _best_dtype(device, parameters)
    dtype = stored if requested == "auto" else requested
    _check_dtype(dtype, device)
    return Choice(dtype, Sentence("checkpoint_is_quantised") if requested == "auto" else AS_ASKED)


def possible_dtypes(device: str = "auto") -> list[str]:
    """The dtypes that can be asked for on a device, given as for `resolve_device`; none if there is no such."""
    try:
        found = resolve_device(device).value
    except HardwareError:
        return []
    return [dtype for dtype in (*DTYPES, *QUANTISED) if _is_possible(dtype, found)]


def _is_possible(dtype: str, device: str) -> bool:
    try:
        _check_dtype(dtype, device)
    except HardwareError:
        return False
    return True


def compute_dtype(dtype: str, device: str) -> str:
    """What is computed in, and what the parts that are never quantised are kept in, as a key of `DTYPES`.

    Quantised weights are multiplied in the half precision of the device; on a CPU without instructions for bf16, where
    half precision is slow, in fp32.

    Args:
        dtype: as from `resolve_dtype`.
        device: as from `resolve_device`.
    """
    import torch

    if dtype in DTYPES:
        return dtype
    if _kind(device) == "cpu":
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return _best_dtype(device).value


def _best_dtype(device: str, parameters: int | None = None) -> Choice:
    kind = _kind(device)
    if kind == "cuda":
        major, minor = _capability(device)
        version, are_several = f"{major}.{minor}", device == BALANCED
        if (major, minor) >= BF16_CAPABILITY:
            return Choice("bf16", Sentence("gpus_capability" if are_several else "gpu_capability", version=version))
        return Choice("fp16", Sentence("gpus_capability_low" if are_several else "gpu_capability_low", version=version))
    if kind == "mps":
        return Choice("fp16", Sentence("safe_on_metal"))
    if _has_amx() and (parameters is None or parameters >= LARGE):
        return Choice("bf16", Sentence("cpu_has_amx"))
    return Choice("fp32", Sentence("exact_on_every_cpu"))


def _has_amx() -> bool:
    """Whether this CPU multiplies matrices of bf16 in units of their own."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _check_dtype(dtype: str, device: str) -> None:
    """Raise where a device cannot compute with a type."""
    kind = _kind(device)
    if dtype == "bf16" and kind == "mps" and not _multiplies("bfloat16", "mps"):
        raise HardwareError("no_bf16_on_metal", ways=[use_dtype("fp16"), use_dtype("auto")])
    if dtype not in QUANTISED:
        return
    if find_spec("bitsandbytes") is None:
        raise HardwareError("bitsandbytes_missing", dtype=dtype, way=use_dtype("auto"))
    if kind == "cuda" and (capability := _capability(device)) < QUANTISED_CAPABILITY:
        version, ways = "{}.{}".format(*capability), [use_dtype("fp16"), use_device("cpu")]
        raise HardwareError("capability_too_low", dtype=dtype, version=version, ways=ways)


def _multiplies(torch_name: str, device: str) -> bool:
    """Whether a device multiplies matrices of a type: tried, since it depends on macOS, chip and torch together."""
    import torch

    try:
        ones = torch.ones(2, 2, dtype=getattr(torch, torch_name), device=device)
        return float((ones @ ones).sum()) == 8
    except (RuntimeError, TypeError, AssertionError):
        return False


def _kind(device: str) -> str:
    """cpu, cuda or mps."""
    return "cuda" if device == BALANCED else device.partition(":")[0]


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _capability(device: str) -> tuple[int, int]:
    """Of a GPU, or the lowest of all of them."""
    import torch

    devices = [f"cuda:{index}" for index in range(_cuda_count())] if device == BALANCED else [device]
    return min(torch.cuda.get_device_capability(one) for one in devices)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or this machine, had no more memory: libraries have many words for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def gib(size: float) -> str:
    """Bytes for the reader: "7.0 GiB"."""
    return f"{size / 2**30:.1f} GiB"
