"""Choose the device and the dtype; every choice carries its reason.

Nothing is detected at import. `auto` falls back and says so; an explicit request that cannot be met is an error that
names the alternatives. "balanced" is not a torch device: it splits one model over all CUDA GPUs and the CPU
(`engine/placement/`).

Support of bitsandbytes as of 0.50.2: int8 and int4 on CUDA from compute capability 6.0, on Metal and on every CPU.
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
AS_ASKED = Sentence("as_requested")  # the reason for an explicit choice
# Dtypes for both storage and computation, and their names in torch.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Dtypes for storage only; see `compute_dtype`.
QUANTISED = ("int8", "int4")
DTYPE_CHOICES = ", ".join(("auto", *DTYPES, *QUANTISED))
# From this number of parameters on, bf16 is faster than fp32 on a CPU with AMX. Measured on an Intel Xeon at 2.1 GHz,
# 2 cores, torch 2.13: with 514 million parameters, prefill of 700 tokens takes 0.72 s instead of 2.79 s and decoding
# 66 ms instead of 93 ms per token; with 6 million, fp32 is faster (333 against 203 tokens/s).
LARGE = 100_000_000
# Minimum compute capability of a GPU for bf16, and for the kernels of bitsandbytes.
BF16_CAPABILITY = (8, 0)
QUANTISED_CAPABILITY = (6, 0)
# Wording of torch's out-of-memory errors where they have no class of their own (CPU, Metal, cuBLAS).
OUT_OF_MEMORY = ("can't allocate", "not enough memory", "out of memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class Choice:
    """A value and the reason for choosing it."""

    value: str
    reason: Sentence

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def prepare_environment(requested: str = "auto") -> bool:
    """Enable torch's CPU fallback for operations that Metal does not implement.

    torch reads `PYTORCH_ENABLE_MPS_FALLBACK` once, when its library is loaded (a static in its MPSFallback.mm), so call
    this before the first `import torch` of the process. A value set by the user is kept.

    Args:
        requested: device, as for `resolve_device` (which imports torch and so runs too late to do this).

    Returns:
        Whether this can have an effect: False if torch is already imported or Metal cannot be used.
    """
    if sys.platform != "darwin" or requested not in ("auto", "mps"):
        return False
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    return "torch" not in sys.modules


def resolve_device(requested: str = "auto") -> Choice:
    """Choose the device to run on.

    Args:
        requested: "auto", "cpu", "cuda", "cuda:N", "mps" or "balanced".

    Raises:
        HardwareError: The device is unknown or not available here.
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
    """Return the advice to use another device, as a parameter of an error."""
    return Sentence("use_device_auto") if device == "auto" else Sentence("use_device", device=device)


def use_dtype(dtype: str) -> Sentence:
    """Return the advice to use another dtype, as a parameter of an error."""
    return Sentence("use_dtype_auto") if dtype == "auto" else Sentence("use_dtype", dtype=dtype)


def resolve_dtype(
    requested: str = "auto", device: str = "cpu", stored: str = "bf16", parameters: int | None = None
) -> Choice:
    """Choose the dtype of the weights.

    Args:
        requested: "auto", a key of `DTYPES` or one of `QUANTISED`.
        device: as returned by `resolve_device`.
        stored: dtype of the checkpoint's files. A quantised checkpoint is loaded as it is.
        parameters: number of parameters of the model; if None, the model is assumed to be large.

    Raises:
        HardwareError: The device does not support the dtype, or the checkpoint cannot be loaded in it.
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
    """Return the dtypes that a device supports, given as for `resolve_device`; empty if there is no such device."""
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
    """Return the dtype of computations and of the parts that are never quantised, a key of `DTYPES`.

    With quantised weights this is the half precision of the device, or fp32 on a CPU without bf16 instructions, where
    half precision is slow.

    Args:
        dtype: as returned by `resolve_dtype`.
        device: as returned by `resolve_device`.
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
    if has_amx() and (parameters is None or parameters >= LARGE):
        return Choice("bf16", Sentence("cpu_has_amx"))
    return Choice("fp32", Sentence("exact_on_every_cpu"))


def has_amx() -> bool:
    """Return whether this CPU has AMX units for bf16 matrix multiplication."""
    import torch

    if not hasattr(torch.cpu, "get_capabilities"):  # as in torch 2.9; AMX tiles and AMX for bf16 come together
        return bool(torch.cpu._is_amx_tile_supported())
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _check_dtype(dtype: str, device: str) -> None:
    """Raise a `HardwareError` if the device does not support the dtype."""
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
    """Return whether a device multiplies matrices of a dtype; tried out, as it depends on macOS, chip and torch."""
    import torch

    try:
        ones = torch.ones(2, 2, dtype=getattr(torch, torch_name), device=device)
        return float((ones @ ones).sum()) == 8
    except (RuntimeError, TypeError, AssertionError):
        return False


def _kind(device: str) -> str:
    """Return the device type: cpu, cuda or mps."""
    return "cuda" if device == BALANCED else device.partition(":")[0]


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _capability(device: str) -> tuple[int, int]:
    """Return the compute capability of a GPU, or the lowest of all GPUs for "balanced"."""
    import torch

    devices = [f"cuda:{index}" for index in range(_cuda_count())] if device == BALANCED else [device]
    return min(torch.cuda.get_device_capability(one) for one in devices)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or this machine ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def gib(size: float) -> str:
    """Format a number of bytes as GiB: "7.0 GiB"."""
    return f"{size / 2**30:.1f} GiB"
