"""What a folder's files say before anything is loaded: whole or not, and whose tensors they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from omnilmm.errors import CheckpointError
from omnilmm.model_lookup import find
from omnilmm.models.checkpoint import plain_names, state_dict, tensor_shapes, weight_files
from omnilmm.versions import looks_like
from tests.models.tiny import VERSIONS, save_tiny, tiny_model

OWNERS = {
    "1.0": "MiniCPM-V 1.0 or MiniCPM-V 2.0",
    "2.0": "MiniCPM-V 1.0 or MiniCPM-V 2.0",
    "2.5": "MiniCPM-Llama3-V 2.5",
    "2.6": "MiniCPM-V 2.6",
    "4.0": "MiniCPM-V 4.0",
    "4.5": "MiniCPM-V 4.5",
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
    assert " or ".join(looks_like(tensor_shapes(folder))) == OWNERS[version]


def without_index(folder: Path, kind: str = "safetensors") -> None:
    sharded(folder, kind)
    next(folder.glob("*.index.json")).unlink()


def saved_as(**how: object) -> Callable[[Path], None]:
    """Save the weights as a pickle, changed."""

    def save(folder: Path) -> None:
        weights: object = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        if change := how.get("names"):
            weights = {change(name): tensor for name, tensor in weights.items()}  # type: ignore[operator, attr-defined]
        if key := how.get("under"):
            weights = {key: weights, "epoch": 3, "optimizer": {"lr": 1e-4}}
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=how.get("zipped", True))

    return save


def compiled(name: str) -> str:
    """A part of the model was compiled."""
    return name.replace("resampler.", "resampler._orig_mod.")


FORMS = {
    "shards without an index": without_index,
    "pickled shards without an index": lambda folder: without_index(folder, "bin"),
    "not zipped": saved_as(zipped=False),
    "not zipped, nested": saved_as(zipped=False, under="state_dict"),
    "state_dict": saved_as(under="state_dict"),
    "model_state_dict": saved_as(under="model_state_dict"),
    "module.": saved_as(names="module.{}".format),
    "_orig_mod.module.": saved_as(names="_orig_mod.module.{}".format),
    "base_model.model.": saved_as(names="base_model.model.{}".format, under="state_dict"),
    "a compiled part": saved_as(names=compiled),
}


@pytest.mark.parametrize("version", ["2.0", "2.6", "omnilmm"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_training_programs_load_alike(tmp_path: Path, version: str, form: str) -> None:
    folder = save_tiny(tmp_path, version)
    expected = load_file(folder / "model.safetensors")
    FORMS[form](folder)
    assert tensor_shapes(folder) == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    ours = model.state_dict()
    assert set(ours) == set(expected) and all(torch.equal(ours[name], expected[name]) for name in expected)
    again = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False, dtype="bfloat16")
    assert {tensor.dtype for tensor in again.state_dict().values()} == {torch.bfloat16}


def test_weights_of_a_training_program_load_as_strictly_and_end_where_the_folder_says(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7]}))
    saved_as(names="module.{}".format)(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    assert model.generation_config.eos_token_id == [7]
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights["module.more"] = weights.pop("module.resampler.query")
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"1 missing: resampler\.query; 1 unexpected: more"):
        AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)


def test_names_that_the_model_has_itself_stay() -> None:
    """A prefix that only some have is none of a wrapper."""
    for names in (["module.a", "b"], ["model.embed_tokens.weight", "model.resampler.query"], ["my_orig_mod.a"]):
        assert plain_names(names) == dict(zip(names, names, strict=True))
    assert plain_names(["model.llm.a", "model.vpm.b"]) == {"model.llm.a": "llm.a", "model.vpm.b": "vpm.b"}


def test_an_adapter_that_was_not_merged_is_named(tmp_path: Path) -> None:
    saved_as(names=lambda name: f"base_model.model.{name.replace('q_proj.', 'q_proj.base_layer.')}")(
        save_tiny(tmp_path)
    )
    with pytest.raises(CheckpointError, match=r"adapter \(LoRA\) .*merge_and_unload"):
        tensor_shapes(tmp_path)


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match="several tensors of one name"):
        plain_names(["a._orig_mod.b", "a.b"])


def test_a_shard_that_no_index_lists_is_missed(tmp_path: Path) -> None:
    without_index(save_tiny(tmp_path))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors of 3 weight files are missing"):
        tensor_shapes(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "b"}}, {}, torch.zeros(2)])
def test_a_pickle_of_something_else_says_so(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="something else than tensors by name"):
        tensor_shapes(tmp_path)


def test_a_clone_without_its_large_files_is_named(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16000000000\n"
    (save_tiny(tmp_path) / "model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a git-lfs pointer\. Run .*`git lfs pull`"):
        tensor_shapes(tmp_path)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text(pointer)
    with pytest.raises(CheckpointError, match=r"config\.json, model\.safetensors, tokenizer\.json are git-lfs poi"):
        find(str(tmp_path))


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
    with pytest.raises(CheckpointError, match=r"index\.json is not an index of weights"):
        weight_files(tmp_path)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    for zipped in (True, False):
        for content in ({"a": Evil()}, {"state_dict": {"a": torch.zeros(1)}, "more": Evil()}):
            torch.save(content, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
            for read in (tensor_shapes, state_dict):
                with pytest.raises(CheckpointError, match=r"more than weights \(.*eval\).* it is refused") as error:
                    read(tmp_path)
                assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()


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
