"""Merging: one load in single precision, checked beforehand, and what is written answers as base and adapter do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from omnilmm.conversation import Conversation
from omnilmm.engine import loading
from omnilmm.engine.adapters import attach
from omnilmm.engine.loading import load_engine
from omnilmm.errors import CheckpointError
from omnilmm.training import merging
from omnilmm.training.__main__ import main
from omnilmm.training.adapters import prepare, save
from omnilmm.training.targets import Tuning
from tests.models.tiny import save_tiny


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    """An adapter that changes the answers, and the resampler."""
    engine = load_engine(str(base), "cpu", "fp32")
    torch.manual_seed(0)
    learning: Any = prepare(engine.model, Tuning(rank=2, alpha=4, tune_resampler=True), engine.card)
    for name, parameter in learning.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save(learning, tmp_path / "adapter")
    return tmp_path / "adapter"


def merged(adapter: Path, out: Path, *flags: str) -> int:
    return main(["merge", "--adapter", str(adapter), "--out", str(out), *flags])


@torch.no_grad()
def logits(engine: Any) -> torch.Tensor:
    found: torch.Tensor = engine.model(**engine.processor.inputs(Conversation().with_message("user", "a?"))).logits
    return found


def test_the_base_is_loaded_once_and_the_result_is_rounded_once(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], loading._load
    monkeypatch.setattr(loading, "_load", lambda *given: (loaded.append(given[1].value), load(*given))[1])
    assert merged(adapter, tmp_path / "half") == 0
    difference = float(re.search(r"on one prompt: ([\d.e-]+)\. Try", capsys.readouterr().out)[1])  # type: ignore[index]
    assert merged(adapter, tmp_path / "single", "--dtype", "fp32") == 0
    assert loaded == ["fp32", "fp32"], "the memory for single precision was checked, for one model each"
    half, single = (load_file(tmp_path / name / "model.safetensors") for name in ("half", "single"))
    assert all(torch.equal(tensor.bfloat16(), half[name]) for name, tensor in single.items())
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    apart = load_engine(str(base), "cpu", "fp32")
    attach(apart.model, adapter, is_merged=False)
    both, alone = logits(apart), logits(load_engine(str(tmp_path / "single"), "cpu", "fp32"))
    assert torch.allclose(both, alone, atol=1e-4) and not torch.allclose(both, logits(load_engine(str(base))), atol=0.1)
    assert 0 < difference < 1


@pytest.mark.parametrize(
    ("changed", "model", "reason"),
    [
        ({"base_model_name_or_path": "openbmb/MiniCPM-V-2"}, "base", "trained for openbmb/MiniCPM-V-2, not for"),
        ({"base_model_name_or_path": None}, "other", "does not fit this model: for llm.model.layers.0"),
        ({"base_model_name_or_path": None}, None, "does not say which model"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    base: Path,
    adapter: Path,
    tmp_path: Path,
    changed: dict[str, Any],
    model: str | None,
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "_load", lambda *_: pytest.fail("loaded"))
    said = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(said | changed))
    if model == "other":
        save_tiny(tmp_path / "other", "omnilmm")
    assert merged(adapter, tmp_path / "out", *(["--model", str(tmp_path / model)] if model else [])) == 1
    error = capsys.readouterr().err
    assert reason in error and len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_an_adapter_that_peft_refuses_is_one_line(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(said | {"target_modules": ["no_such_layer"]}))
    assert merged(adapter, tmp_path / "out") == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(error) == 1 and "cannot be loaded" in error[0].lower()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"revision": "c" * 40, "hub": "huggingface", "offline": False}),
        (["--revision", "v1", "--offline"], {"revision": "v1", "hub": "huggingface", "offline": True}),
        (["--hub", "modelscope"], {"revision": None, "hub": "modelscope", "offline": False}),
        (["--model", "mine"], {"revision": None, "hub": "huggingface", "offline": False}),
    ],
)
def test_the_base_is_the_revision_that_the_adapter_names_unless_another_is_given(
    base: Path, tmp_path: Path, flags: list[str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of one hub is none of the other, nor of another model."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    said = {"peft_type": "LORA", "base_model_name_or_path": str(base), "revision": "c" * 40}
    (adapter / "adapter_config.json").write_text(json.dumps(said))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    asked: dict[str, Any] = {}

    def preparing(*_: Any, **arguments: Any) -> None:
        asked.update(arguments)
        raise CheckpointError("adapter_empty", name="it")

    monkeypatch.setattr(merging, "prepare", preparing)
    (tmp_path / "mine").symlink_to(base)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("omnilmm.catalog.is_for", lambda *_: True)
    assert merged(adapter, tmp_path / "out", *flags) == 1
    assert {name: asked.get(name) for name in expected} == expected
