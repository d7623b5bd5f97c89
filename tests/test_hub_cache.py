"""A folder of the hub's cache given as a model means the checkpoint in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omnilmm.errors import CheckpointError
from omnilmm.model_lookup import find

OLD, NEW = "1" * 40, "2" * 40


def cached(tmp_path: Path, name: str = "models--some--My-Model", main: str | None = NEW) -> Path:
    model = tmp_path / "hub" / name
    for age, commit in ((200, OLD), (100, NEW)):
        folder = model / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "minicpmv", "version": "2.6"}))
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)
    if main:
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(main)
    return model


@pytest.mark.parametrize(("main", "meant"), [(NEW, NEW), (OLD, OLD), (None, NEW), ("3" * 40, NEW)])
def test_the_folder_of_a_model_means_what_main_is(tmp_path: Path, main: str | None, meant: str) -> None:
    model = cached(tmp_path, main=main)
    for given in (model, model / "snapshots", model / "snapshots" / meant):
        card = find(str(given))
        assert Path(card.source) == (model / "snapshots" / meant).resolve() and card.name == str(given)
        assert card.title == "My-Model (MiniCPM-V 2.6)" and card.family == "minicpm-v-2.6"


def test_a_cache_of_several_models_names_them(tmp_path: Path) -> None:
    cached(tmp_path, "models--a--one")
    hub = cached(tmp_path, "models--b--two--more").parent
    for given in (hub, tmp_path):
        with pytest.raises(CheckpointError, match=r"--model a/one \(also b/two--more\)\.$"):
            find(str(given))


def test_a_model_of_which_nothing_was_fetched_is_asked_for_by_name(tmp_path: Path) -> None:
    (tmp_path / "models--a--one" / "snapshots").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"nothing has been fetched into it: give its name, --model a/one\.$"):
        find(str(tmp_path / "models--a--one"))
    (tmp_path / "plain").mkdir()
    with pytest.raises(CheckpointError, match=r"plain is not a checkpoint: it has no config\.json"):
        find(str(tmp_path / "plain"))


@pytest.mark.parametrize("config", [False, True])
def test_an_adapter_names_its_model(tmp_path: Path, config: bool) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "openbmb/MiniCPM-V-2_6"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    if config:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "minicpmv", "version": "2.6"}))
    with pytest.raises(CheckpointError, match=r"is an adapter \(LoRA\) for openbmb/MiniCPM-V-2_6: give both, --model"):
        find(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"is an adapter \(LoRA\) for the model it was trained for"):
        find(str(tmp_path))
    if config:  # a whole model with an adapter beside it: neither is ignored
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError, match="holds a whole model and an adapter"):
            find(str(tmp_path))
