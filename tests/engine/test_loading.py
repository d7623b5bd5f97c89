"""Loading: folders of any name, and one clear line for everything that can be wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from omnilmm.catalog import ROOT
from omnilmm.engine.loading import load_engine
from omnilmm.errors import CheckpointError, HardwareError, ModelNotFoundError

BUILT_IN = ROOT / "assets" / "built-in"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in checkpoint under an awkward name."""
    copy = tmp_path / "my model v1.2 (new)"
    shutil.copytree(BUILT_IN, copy)
    return copy


def test_a_folder_with_dots_and_spaces_loads(folder: Path) -> None:
    engine = load_engine(str(folder), device="cpu")
    assert engine.card.title == "my model v1.2 (new) (MiniCPM-V 2.6)"
    assert engine.card.context == 2048


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_weights_come_in_the_number_type_asked_for(dtype: str) -> None:
    engine = load_engine(dtype=dtype)
    assert str(engine.dtype) == f"{dtype} (as asked)"
    assert {str(parameter.dtype) for parameter in engine.model.parameters()} == {
        {"bf16": "torch.bfloat16", "fp16": "torch.float16"}[dtype]
    }


def broken(folder: Path, damage: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "weights missing":
        weights.unlink()
    elif damage == "weights cut off":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif damage == "weights empty":
        weights.write_bytes(b"")
    elif damage == "config missing":
        config.unlink()
    elif damage == "config no json":
        config.write_text("{")
    elif damage == "config of another size":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 128}))
    elif damage == "config of another model":
        config.write_text(json.dumps({"model_type": "llama"}))
    elif damage == "tokenizer missing":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("weights missing", "model.safetensors"),
        ("weights cut off", "damaged or cut off"),
        ("weights empty", "damaged or cut off"),
        ("config missing", "no config.json"),
        ("config no json", "cannot be read as JSON"),
        ("config of another size", "of another shape"),
        ("config of another model", "'llama'"),
        ("tokenizer missing", "tokenizer"),
    ],
)
def test_damaged_folders_are_one_clear_line(folder: Path, damage: str, says: str) -> None:
    broken(folder, damage)
    with pytest.raises(CheckpointError, match=says) as error:
        load_engine(str(folder))
    assert "\n" not in str(error.value)
    assert any(named in str(error.value).lower() for named in ("my model v1.2", "tensor", "'llama'"))


def test_unknown_models_come_with_suggestions() -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean built-in"):
        load_engine("build-in")


def test_a_device_that_is_not_here_is_said_before_anything_is_loaded() -> None:
    with pytest.raises(HardwareError, match="available are cpu"):
        load_engine(device="cuda:7")
