"""What a model takes is compared with what is free, and what does not fit is refused with the nearest that does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedConfig

from omnilmm import hardware
from omnilmm.catalog import ModelCard, cards
from omnilmm.engine.placement import device_memory
from omnilmm.engine.placement.fit import check_fit
from omnilmm.errors import HardwareError
from omnilmm.hardware import Choice
from omnilmm.model_lookup import find
from tests.engine.placement.test_layers import full_size

GIB = 2**30
CARD = cards()["minicpm-llama3-v-2.5"]


@pytest.fixture(scope="module")
def config() -> PreTrainedConfig:
    return full_size("minicpm-llama3-v-2.5")


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, config: PreTrainedConfig):
    """`check_fit` of 2.5 on a GPU with so many GiB free, in a machine with so many on the CPU."""

    def check(
        free_gib: float, dtype: str = "bf16", *, device: str = "cuda", card: ModelCard = CARD, cpu_gib: float = 1
    ):
        free = {device: int(free_gib * GIB), "balanced": int((free_gib + cpu_gib) * GIB)}
        monkeypatch.setattr(device_memory, "free_memory", free.get)
        monkeypatch.setattr(hardware, "_capability", lambda device: (8, 6))
        return check_fit(card, config, Choice(device, "test"), Choice(dtype, "test"))

    return check


def test_what_fits_is_not_mentioned(fit) -> None:
    assert fit(18) is None


def test_weights_that_fit_alone_are_a_warning_with_a_way_out(fit) -> None:
    warning = fit(16.5)
    assert warning is not None
    assert str(warning).startswith(
        "MiniCPM-Llama3-V 2.5 in bf16 needs 17.0 GiB, 16.5 GiB are free on cuda. The weights (15.9 GiB) fit, but a "
        "long conversation or a large picture may not: if it fails, try --dtype int8 (10.7 GiB)"
    )


def test_weights_that_do_not_fit_are_refused_with_the_nearest_that_do(fit) -> None:
    with pytest.raises(HardwareError) as caught:
        fit(8)
    message = str(caught.value)
    assert message.startswith(
        "MiniCPM-Llama3-V 2.5 in bf16 needs 17.0 GiB, 8.0 GiB are free on cuda: try --dtype int4 (7.5 GiB)"
    )
    named = message.partition("--model ")[2].partition(" ")[0]
    assert cards()[named].parameters < CARD.parameters
    assert min(cards()[named].memory_gib.values()) <= 8
    assert "balanced" not in message


def test_the_cpu_may_help(fit) -> None:
    with pytest.raises(HardwareError, match="--device balanced"):
        fit(8, cpu_gib=20)
    with pytest.raises(HardwareError, match=r"needs 10\.7 GiB") as caught:
        fit(8, "int8", cpu_gib=20)  # quantised layers stay on GPUs
    assert "balanced" not in str(caught.value)


def test_a_smaller_dtype_of_a_smaller_model_goes_before_the_built_in_one(fit) -> None:
    free = min(min(c.memory_gib.values()) for c in cards().values() if c.memory_gib and c.name != "built-in") + 0.1
    with pytest.raises(HardwareError, match=r"--model minicpm-v-4\.6 --dtype int4 \("):
        fit(free)


def test_of_equal_dtypes_bf16_is_proposed(fit) -> None:
    with pytest.raises(HardwareError, match=r"try --dtype bf16 \(17\.0 GiB\)"):
        fit(20, "fp32", device="cpu")


def test_only_what_can_be_done_is_proposed(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "find_spec", lambda name: None)  # no bitsandbytes
    for free in (8, 5):
        with pytest.raises(HardwareError, match="try --model") as caught:
            fit(free)
        assert "int" not in str(caught.value)


def test_a_quantised_checkpoint_has_no_other_dtype(fit) -> None:
    with pytest.raises(HardwareError) as caught:
        fit(4, "int4", card=cards()["minicpm-llama3-v-2.5-int4"])
    assert "--dtype int8" not in str(caught.value).partition("--model")[0]


def test_where_nothing_fits_it_says_so(fit) -> None:
    with pytest.raises(HardwareError, match=r"0\.0 GiB are free on cuda: try (--model built-in|a smaller model)"):
        fit(0.01)


def test_an_unknown_amount_of_memory_is_no_obstacle(fit, monkeypatch: pytest.MonkeyPatch, config) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda device: None)
    assert check_fit(CARD, config, Choice("cpu", "test"), Choice("fp32", "test")) is None


def test_the_built_in_model_fits_everywhere() -> None:
    card = find("built-in")
    config = full_size("minicpm-v-2.6").from_pretrained(card.location)
    assert check_fit(card, config, Choice("cpu", "test"), Choice("fp32", "test")) is None


def test_importing_it_is_cheap() -> None:
    script = (
        "import sys\n"
        "from omnilmm.engine.placement import bitsandbytes, device_map, device_memory, estimate, fit\n"
        "assert not {'torch', 'transformers', 'bitsandbytes', 'accelerate'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
