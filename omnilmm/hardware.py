"""Which device and which number type, and why: every choice carries its reason.

Nothing is detected at import. `auto` falls back and says so; an explicit wish that cannot be met is an error that says
what can.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.errors import HardwareError

DEVICES = "auto, cpu, cuda, cuda:N or mps"
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True)
class Choice:
    """A value and the reason why it was chosen."""

    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def resolve_device(wish: str = "auto") -> Choice:
    """The device to run on.

    Args:
        wish: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        HardwareError: No such device here.
    """
    import torch

    cuda_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    here = ["cpu"] + [f"cuda:{index}" for index in range(cuda_count)] + ["mps"] * has_mps
    if wish == "auto":
        if cuda_count:
            return Choice("cuda", f"a CUDA GPU is available: {torch.cuda.get_device_name(0)}")
        if has_mps:
            return Choice("mps", "no CUDA GPU; Metal is available")
        return Choice("cpu", "no CUDA GPU and no Metal here")
    if wish in here or (wish == "cuda" and cuda_count):
        return Choice(wish, "as asked")
    kind, _, index = wish.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise HardwareError(f"Unknown device {wish!r}: expected {DEVICES}.")
    raise HardwareError(f"There is no {wish!r} on this machine: available are {', '.join(here)}. Try --device auto.")


def resolve_dtype(wish: str = "auto", device: str = "cpu") -> Choice:
    """The number type of the weights, as a key of `DTYPES`.

    Args:
        wish: "auto" or a key of `DTYPES`.
        device: as from `resolve_device`.

    Raises:
        HardwareError: The device cannot compute with it.
    """
    import torch

    kind = device.partition(":")[0]
    if wish == "auto":
        if kind == "cuda":
            major, minor = torch.cuda.get_device_capability(device)
            has_bf16 = major >= 8
            why = f"the GPU's compute capability is {major}.{minor}"
            return Choice("bf16", why) if has_bf16 else Choice("fp16", f"{why}, below 8.0")
        if kind == "mps":
            return Choice("fp16", "the safe type on Metal")
        return Choice("fp32", "exact, and works on every CPU")
    if wish not in DTYPES:
        raise HardwareError(f"Unknown number type {wish!r}: expected auto, {', '.join(DTYPES)}.")
    if kind == "mps" and wish == "bf16":
        raise HardwareError("bf16 is not supported on Metal (MPS) here: use --dtype fp16 or --dtype auto.")
    return Choice(wish, "as asked")
