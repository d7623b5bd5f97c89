"""What a folder's files say before anything is loaded: whole or not, and whose tensors they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from omnilmm.errors import CheckpointError
from omnilmm.models.checkpoint import looks_like, tensor_shapes, weight_files
from tests.models.tiny import VERSIONS, save_tiny, tiny_model

OWNERS = {
    "1.0": "MiniCPM-V 1.0 or 2.0",
    "2.0": "MiniCPM-V 1.0 or 2.0",
    "2.5": "MiniCPM-Llama3-V 2.5",
    "2.6": "MiniCPM-V 2.6",
    "omnilmm": "OmniLMM-12B",
}


def sharded(folder: Path, kind: str = "safetensors") -> list[Path]:
    """The folder's weights in three files and an index, as transformers and torch write them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names, index, files = sorted(weights), {}, []
    for number in range(3):
        part = {name: weights[name].clone() for name in names[number::3]}
        file = folder / f"{stem}-0000{number + 1}-of-00003.{kind}"
        if kind == "safetensors":
            save_file(part, file, metadata={"format": "pt"})
        else:
            torch.save(part, file)
        index |= dict.fromkeys(part, file.name)
        files.append(file)
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return files


@pytest.mark.parametrize("version", [*VERSIONS, "omnilmm"])
@pytest.mark.parametrize("form", ["safetensors", "sharded safetensors", "pickle", "sharded pickles"])
def test_every_form_of_weights_loads_alike(tmp_path: Path, version: str, form: str) -> None:
    folder = save_tiny(tmp_path / "a folder v1.0", version)
    expected = load_file(folder / "model.safetensors")
    if form.startswith("sharded"):
        sharded(folder, "bin" if "pickles" in form else "safetensors")
    elif form == "pickle":
        torch.save(expected, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    assert tensor_shapes(folder) == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    ours = model.state_dict()
    assert set(ours) == set(expected) and all(torch.equal(ours[name], expected[name]) for name in expected)
    assert looks_like(expected) == OWNERS[version]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("damage", ["cut off", "empty", "garbage"])
def test_a_damaged_shard_is_named(tmp_path: Path, kind: str, damage: str) -> None:
    shard = sharded(save_tiny(tmp_path, "2.0"), kind)[1]
    content = shard.read_bytes()
    shard.write_bytes({"cut off": content[: len(content) // 2], "empty": b"", "garbage": b"<html>" * 100}[damage])
    with pytest.raises(CheckpointError, match=f"{shard.name} is damaged or cut off .* Fetch it again") as error:
        tensor_shapes(tmp_path)
    assert "\n" not in str(error.value)


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    sharded(save_tiny(tmp_path))[2].unlink()
    with pytest.raises(CheckpointError, match=r"model-00003-of-00003\.safetensors of 3 weight files are missing"):
        weight_files(tmp_path)


def test_a_folder_without_weights_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights: expected one of model\.safetensors, pytorch_model\.bin"):
        weight_files(tmp_path)


def test_an_index_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"index\.json is no index of weights"):
        weight_files(tmp_path)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("open('/tmp/pwned', 'w')",))

    torch.save({"a": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is damaged"):
        tensor_shapes(tmp_path)


@pytest.mark.parametrize(("config", "weights"), [("2.6", "2.5"), ("2.5", "2.0"), ("2.0", "omnilmm")])
def test_weights_of_another_model_are_recognised(tmp_path: Path, config: str, weights: str) -> None:
    folder, other = save_tiny(tmp_path / "a", config), save_tiny(tmp_path / "b", weights)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=f"They look like those of {OWNERS[weights]}"):
        AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_tower_of_another_size_is_measured(tmp_path: Path, version: str) -> None:
    """The hub's config.json of these two names the tower without its sizes."""
    folder = save_tiny(tmp_path, version)
    config = json.loads((folder / "config.json").read_text())
    heads = config.pop("vision_config")["num_attention_heads"]
    config["vision_config"] = {"num_attention_heads": heads}
    (folder / "config.json").write_text(json.dumps(config))
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    original = tiny_model(version).state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in model.state_dict().items())
    assert model.config.vision_config.image_size == 112
