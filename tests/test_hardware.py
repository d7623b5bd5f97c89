"""Device and number type are chosen with their reason; a wish that cannot be met is an error that says what can."""

from __future__ import annotations

import pytest
import torch

from omnilmm.errors import HardwareError
from omnilmm.hardware import DTYPES, Choice, resolve_device, resolve_dtype


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a CPU and nothing else."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def with_cuda(machine: pytest.MonkeyPatch, count: int = 1, capability: tuple[int, int] = (8, 0)) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: count)
    machine.setattr(torch.cuda, "get_device_name", lambda index: "Test GPU")
    machine.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def with_metal(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.backends.mps, "is_available", lambda: True)


def test_auto_takes_the_best_and_says_why(machine: pytest.MonkeyPatch) -> None:
    assert resolve_device() == Choice("cpu", "no CUDA GPU and no Metal here")
    with_metal(machine)
    assert str(resolve_device("auto")) == "mps (no CUDA GPU; Metal is available)"
    with_cuda(machine)
    assert str(resolve_device("auto")) == "cuda (a CUDA GPU is available: Test GPU)"


@pytest.mark.parametrize("wish", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_wish_that_can_be_met_is_met(machine: pytest.MonkeyPatch, wish: str) -> None:
    with_cuda(machine, count=2)
    with_metal(machine)
    assert resolve_device(wish) == Choice(wish, "as asked")


@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_is_not_here_is_an_error_with_what_is(machine: pytest.MonkeyPatch, wish: str) -> None:
    with pytest.raises(HardwareError, match=f"no '{wish}' on this machine: available are cpu. Try --device auto"):
        resolve_device(wish)
    with_cuda(machine, count=2)
    with pytest.raises(HardwareError, match="available are cpu, cuda:0, cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("wish", ["gpu", "", "cuda:x", "CUDA", "xpu", "tpu:0"])
def test_a_device_that_does_not_exist_is_an_error_with_what_does(machine: pytest.MonkeyPatch, wish: str) -> None:
    with pytest.raises(HardwareError, match=f"Unknown device '{wish}': expected auto, cpu, cuda, cuda:N or mps"):
        resolve_device(wish)


def test_number_types_fit_the_device(machine: pytest.MonkeyPatch) -> None:
    assert resolve_dtype("auto", "cpu").value == "fp32"
    assert resolve_dtype("auto", "mps").value == "fp16"
    with_cuda(machine, capability=(9, 0))
    assert str(resolve_dtype("auto", "cuda:0")) == "bf16 (the GPU's compute capability is 9.0)"
    with_cuda(machine, capability=(7, 5))
    assert str(resolve_dtype("auto", "cuda")) == "fp16 (the GPU's compute capability is 7.5, below 8.0)"


@pytest.mark.parametrize("wish", DTYPES)
def test_a_number_type_asked_for_is_taken(wish: str) -> None:
    assert resolve_dtype(wish, "cpu") == Choice(wish, "as asked")
    assert hasattr(torch, DTYPES[wish])


def test_number_types_that_cannot_work_are_refused() -> None:
    with pytest.raises(HardwareError, match=r"not supported on Metal .*--dtype fp16"):
        resolve_dtype("bf16", "mps")
    for wish in ("int4", "float16", ""):
        with pytest.raises(HardwareError, match=f"'{wish}': expected auto, bf16, fp16, fp32"):
            resolve_dtype(wish)
