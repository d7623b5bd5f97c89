"""Device and dtype are chosen with their reason; a request that cannot be met is an error that says what can."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from omnilmm import hardware
from omnilmm.errors import HardwareError
from omnilmm.hardware import (
    AS_ASKED,
    DTYPE_CHOICES,
    DTYPES,
    QUANTISED,
    Choice,
    compute_dtype,
    prepare_environment,
    resolve_device,
    resolve_dtype,
)
from omnilmm.sentences import Sentence


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
    assert resolve_device() == Choice("cpu", Sentence("no_accelerator"))
    with_metal(machine)
    assert str(resolve_device("auto")) == "mps (no CUDA GPU; Metal is available)"
    with_cuda(machine)
    assert str(resolve_device("auto")) == "cuda (a CUDA GPU is available: Test GPU)"


@pytest.mark.parametrize("requested", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_wish_that_can_be_met_is_met(machine: pytest.MonkeyPatch, requested: str) -> None:
    with_cuda(machine, count=2)
    with_metal(machine)
    assert resolve_device(requested) == Choice(requested, AS_ASKED)


@pytest.mark.parametrize("requested", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_is_not_here_is_an_error_with_what_is(machine: pytest.MonkeyPatch, requested: str) -> None:
    with pytest.raises(HardwareError, match=f"no '{requested}' on this machine: available are cpu. Try --device auto"):
        resolve_device(requested)
    with_cuda(machine, count=2)
    with pytest.raises(HardwareError, match="available are cpu, cuda:0, cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("requested", ["gpu", "", "cuda:x", "CUDA", "xpu", "tpu:0"])
def test_a_device_that_does_not_exist_is_an_error_with_what_does(machine: pytest.MonkeyPatch, requested: str) -> None:
    with pytest.raises(
        HardwareError, match=f"Unknown device '{requested}': expected auto, cpu, cuda, cuda:N, mps or balanced"
    ):
        resolve_device(requested)


def test_a_model_may_be_spread_over_gpus_and_the_cpu(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(HardwareError, match="no 'balanced' on this machine, which needs a CUDA GPU: available are cpu"):
        resolve_device("balanced")
    with_metal(machine)
    with pytest.raises(HardwareError, match="which needs a CUDA GPU: available are cpu, mps"):
        resolve_device("balanced")
    with_cuda(machine, count=1)
    assert str(resolve_device("balanced")) == "balanced (as requested: split over the CUDA GPU and the CPU)"
    with_cuda(machine, count=3)
    assert str(resolve_device("balanced")) == "balanced (as requested: split over 3 CUDA GPUs and the CPU)"
    with pytest.raises(HardwareError, match="Unknown device 'balanced:1'"):
        resolve_device("balanced:1")


def test_dtypes_fit_the_device(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False}, raising=False)
    assert resolve_dtype("auto", "cpu").value == "fp32"
    machine.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert resolve_dtype("auto", "cpu").value == resolve_dtype("auto", "cpu", parameters=10**9).value == "bf16"
    assert resolve_dtype("auto", "cpu", parameters=6 * 10**6).value == "fp32"
    assert resolve_dtype("auto", "mps").value == "fp16"
    with_cuda(machine, capability=(9, 0))
    assert str(resolve_dtype("auto", "cuda:0")) == "bf16 (the GPU's compute capability is 9.0)"
    with_cuda(machine, capability=(8, 0))
    assert resolve_dtype("auto", "cuda").value == "bf16"
    with_cuda(machine, capability=(7, 5))
    assert str(resolve_dtype("auto", "cuda")) == "fp16 (the GPU's compute capability is 7.5, below 8.0)"


def test_of_several_gpus_the_weakest_decides(machine: pytest.MonkeyPatch) -> None:
    with_cuda(machine, count=2)
    capabilities = {"cuda:0": (9, 0), "cuda:1": (7, 5)}
    machine.setattr(torch.cuda, "get_device_capability", capabilities.get)
    assert str(resolve_dtype("auto", "balanced")) == "fp16 (the GPUs' lowest compute capability is 7.5, below 8.0)"
    assert compute_dtype("int4", "balanced") == "fp16"
    capabilities["cuda:1"] = (8, 6)
    assert str(resolve_dtype("auto", "balanced")) == "bf16 (the GPUs' lowest compute capability is 8.6)"


@pytest.mark.parametrize("requested", [*DTYPES, *QUANTISED])
def test_a_dtype_asked_for_is_taken(requested: str) -> None:
    assert resolve_dtype(requested, "cpu") == Choice(requested, AS_ASKED)
    assert isinstance(getattr(torch, DTYPES[compute_dtype(requested, "cpu")]), torch.dtype)


@pytest.mark.parametrize("stored", QUANTISED)
def test_a_quantised_checkpoint_stays_quantised(stored: str) -> None:
    assert resolve_dtype("auto", "cpu", stored) == Choice(stored, Sentence("checkpoint_is_quantised"))
    assert resolve_dtype(stored, "mps", stored) == Choice(stored, AS_ASKED)
    for requested in {*DTYPES, *QUANTISED} - {stored}:
        with pytest.raises(
            HardwareError, match=f"quantised: its files are {stored} and cannot be loaded in {requested}. Use"
        ):
            resolve_dtype(requested, "cpu", stored)


def test_bf16_on_metal_is_tried(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(HardwareError, match=r"not supported on Metal .*small matrices failed.*--dtype fp16"):
        resolve_dtype("bf16", "mps")
    machine.setattr(hardware, "_multiplies", lambda dtype, device: (dtype, device) == ("bfloat16", "mps"))
    assert resolve_dtype("bf16", "mps") == Choice("bf16", AS_ASKED)
    assert resolve_dtype("auto", "mps").value == "fp16"


def test_trying_means_multiplying(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware._multiplies("bfloat16", "cpu") and hardware._multiplies("float32", "cpu")
    assert not hardware._multiplies("bfloat16", "meta")  # there is nothing to look at
    ones = torch.ones
    monkeypatch.setattr(
        torch, "ones", lambda *size, **kwargs: ones(*size, **kwargs) * 3
    )  # wrong results are no results
    assert not hardware._multiplies("bfloat16", "cpu")

    def refuse(*_: int, **__: object) -> None:
        raise TypeError("BFloat16 is not supported on MPS")  # what torch says before macOS 14

    monkeypatch.setattr(torch, "ones", refuse)
    assert not hardware._multiplies("bfloat16", "cpu")


def test_quantised_weights_are_computed_in_the_half_precision_of_the_device(machine: pytest.MonkeyPatch) -> None:
    for dtype in QUANTISED:
        assert compute_dtype(dtype, "mps") == "fp16"
        with_cuda(machine, capability=(8, 9))
        assert compute_dtype(dtype, "cuda") == "bf16"
        with_cuda(machine, capability=(7, 0))
        assert compute_dtype(dtype, "cuda:0") == "fp16"
        machine.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
        assert compute_dtype(dtype, "cpu") == "bf16"
        machine.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        assert compute_dtype(dtype, "cpu") == "fp32"
    assert compute_dtype("fp16", "cuda") == "fp16"


@pytest.mark.parametrize("dtype", QUANTISED)
def test_quantised_weights_need_bitsandbytes_and_a_gpu_that_it_knows(machine: pytest.MonkeyPatch, dtype: str) -> None:
    with_cuda(machine, capability=(5, 2))
    with pytest.raises(
        HardwareError, match=rf"{dtype} needs a GPU of compute capability 6\.0 or more, this one has 5\.2"
    ):
        resolve_dtype(dtype, "cuda")
    with pytest.raises(HardwareError, match="needs a GPU"):  # a quantised checkpoint too
        resolve_dtype("auto", "cuda", stored=dtype)
    with_cuda(machine, capability=(6, 0))
    assert resolve_dtype(dtype, "cuda").value == dtype
    machine.setattr(hardware, "find_spec", lambda name: None)
    with pytest.raises(HardwareError, match=f"{dtype} needs the package bitsandbytes: pip install bitsandbytes"):
        resolve_dtype(dtype, "cpu")


def test_dtypes_that_do_not_exist_are_refused() -> None:
    assert DTYPE_CHOICES == "auto, bf16, fp16, fp32, int8, int4"
    for requested in ("int2", "float16", ""):
        with pytest.raises(HardwareError, match=f"'{requested}': expected {DTYPE_CHOICES}"):
            resolve_dtype(requested)


def test_metal_may_leave_to_the_cpu_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "")  # so that its absence is restored
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK")
    assert not prepare_environment("mps") and "PYTORCH_ENABLE_MPS_FALLBACK" not in hardware.os.environ
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not prepare_environment("cpu") and "PYTORCH_ENABLE_MPS_FALLBACK" not in hardware.os.environ
    assert not prepare_environment("mps")  # torch is loaded: it comes too late for this process
    assert hardware.os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"  # not for those that it starts
    monkeypatch.delitem(sys.modules, "torch")
    assert prepare_environment("auto")
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    prepare_environment("mps")
    assert hardware.os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "0"  # the user's word counts


def test_the_environment_is_prepared_before_torch_is_there() -> None:
    """It does not load what it must come before."""
    script = (
        "import sys; sys.platform = 'darwin'\n"
        "from omnilmm.hardware import prepare_environment\n"
        "assert prepare_environment() and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=hardware.__file__.rpartition("/omnilmm/")[0])
