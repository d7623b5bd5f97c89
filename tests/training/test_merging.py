"""Merging: one load in single precision, checked beforehand, and what is written answers as base and adapter do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import web_demo
from omnilmm.conversation import Conversation
from omnilmm.engine import choosing, loading
from omnilmm.engine.adapters import attach
from omnilmm.engine.loading import load_engine
from omnilmm.errors import CheckpointError, OmniLMMError
from omnilmm.model_lookup import find
from omnilmm.training.__main__ import main
from omnilmm.training.adapters import prepare, save
from omnilmm.training.targets import Tuning
from omnilmm.ui.startup import provider_of
from tests.models.tiny import save_tiny


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    """An adapter that changes the answers, and the resampler."""
    engine = load_engine(str(base), "cpu", "fp32")
    torch.manual_seed(0)
    tuned: Any = prepare(engine.model, Tuning(rank=2, alpha=4, tune_resampler=True), engine.card)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save(tuned, tmp_path / "adapter")
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


REPOSITORY, COMMIT = "openbmb/MiniCPM-V-2", "c" * 40


@pytest.mark.parametrize(
    ("flags", "revision"),
    [
        ([], COMMIT),
        (["--revision", "v1"], "v1"),
        (["--hub", "modelscope"], None),
        (["--model", "minicpm-v-2"], COMMIT),
        (["--model", "me/MiniCPM-V-2"], None),
    ],
)
def test_the_base_is_the_commit_that_the_adapter_names_unless_another_is_given(
    tmp_path: Path, flags: list[str], revision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of one hub is none of the other, nor of a copy of the repository. The page takes the same."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    said = {"peft_type": "LORA", "base_model_name_or_path": REPOSITORY, "revision": COMMIT}
    (adapter / "adapter_config.json").write_text(json.dumps(said))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    asked: list[str | None] = []

    def fetching(*_: Any, **arguments: Any) -> None:
        asked.append(arguments["revision"])
        raise CheckpointError("adapter_empty", name="it")

    monkeypatch.setattr(loading, "fetch", fetching)
    monkeypatch.setattr(loading, "check_before_download", lambda *_: None)
    assert merged(adapter, tmp_path / "out", *flags) == 1
    named = flags if "--model" in flags else ["--model", REPOSITORY, *flags]
    provider = provider_of(web_demo.parser().parse_args([*named, "--adapter", str(adapter)]), lambda *_: None)
    with pytest.raises(OmniLMMError, match="it"):
        provider.wait()
    assert asked == [revision, revision]
    card = find(f"{named[1]} + {adapter}")
    monkeypatch.setattr(choosing, "adapted", lambda: (card,))
    monkeypatch.setattr("omnilmm.engine.fetching.cached", lambda source, at, hub: at if source == card.source else None)
    (entry,) = [one for one in choosing.listed("cpu", "huggingface") if one.card.adapter]
    assert entry.is_here is (card.revision == COMMIT)  # the picker looks for that commit
