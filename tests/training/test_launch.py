"""How a launcher started a process, and what it may not do with the weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from omnilmm.errors import HardwareError
from omnilmm.hardware import AS_ASKED, Choice
from omnilmm.training import run as running
from omnilmm.training.__main__ import main


def test_one_gpu_of_several_is_chosen_by_what_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "resolve_device", lambda requested: Choice(requested, AS_ASKED))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(HardwareError, match="CUDA_VISIBLE_DEVICES=1"):
        running._device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert running._device("cuda") == "cuda:1" and running._device("cpu") == "cpu"
    monkeypatch.delenv("LOCAL_RANK")
    assert running._device("cuda") == "cuda"


STAGES = ('{"zero_optimization": {"stage": 2}}', '{"zero_optimization": {"stage": 3}}', '{"zero_optimization": ')
LAUNCHED: dict[str, tuple[dict[str, str], str | None, str]] = {
    "FSDP": ({"ACCELERATE_USE_FSDP": "true"}, None, "FSDP splits the weights"),
    "stage of the file": ({}, STAGES[1], "stage 3 splits the weights"),
    "stage of the launcher": (
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
        None,
        "stage 3 splits the weights",
    ),
    "file of the launcher": (
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": "zero.json"},
        STAGES[1],
        "stage 3 splits the weights",
    ),
    "cut off": ({}, STAGES[2], "configuration of DeepSpeed"),
    "without the package": ({}, STAGES[0], "pip install deepspeed"),
    "a stage that keeps the model whole": (
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
        None,
        "No such file",
    ),
}


@pytest.mark.parametrize("how", LAUNCHED)
def test_weights_split_over_processes_are_refused_since_no_whole_model_would_be_saved(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, file, expected = LAUNCHED[how]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("omnilmm.training.launch.find_spec", lambda name: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = ["--deepspeed", "zero.json"] if file and not environment else []
    if file:
        Path("zero.json").write_text(file)
    assert main(["train", "--data", "none.json", "--out", "out", *given]) in (1, 2)
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1 and not Path("out").exists()


def test_a_training_whose_curve_cannot_be_drawn_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    installed = "omnilmm.ui.flag_values.find_spec"
    monkeypatch.setattr(installed, lambda name: None if name == "matplotlib" else find_spec(name))
    assert main(["train", "--data", "none.json", "--out", "out"]) in (1, 2)
    error = capsys.readouterr().err
    assert "matplotlib" in error and "pip install" in error and "Traceback" not in error and not Path("out").exists()
