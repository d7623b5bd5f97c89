"""Recognise checkpoints for other programs by file names or `config.json`, and name a program that runs them.

No weights are loaded, so an unsupported checkpoint is refused before gigabytes are downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from omnilmm.checkpoint_json import read_json
from omnilmm.errors import CheckpointError
from omnilmm.sentences import Parameter, Sentence

# A single weight file, and the index of a sharded checkpoint.
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(f"{name}.index.json" for name in SINGLE_FILES)
# In the order in which transformers looks for them.
WEIGHTS = (SINGLE_FILES[0], INDEXES[0], SINGLE_FILES[1], INDEXES[1])
SHARD = re.compile(r"(model|pytorch_model)-(\d{1,5})-of-(\d{1,5})\.(safetensors|bin)")
BY_NAME = {"adapter_config.json": Sentence("is_adapter"), "model_index.json": Sentence("is_diffusers")}
# By file suffix, in order of priority.
BY_ENDING = {".gguf": Sentence("is_gguf"), ".onnx": Sentence("is_onnx"), ".npz": Sentence("is_mlx_file")}


def shards(names: Iterable[str]) -> list[str]:
    """Return the names of all shards of a checkpoint, given at least one of them.

    The name of a shard contains their number, so missing shards are known without the index.

    Args:
        names: file names; those that are not shards are ignored.

    Returns:
        Names of the safetensors shards, else of the pickle shards; empty if the checkpoint is not sharded.
    """
    found = [match for name in sorted(names) if (match := SHARD.fullmatch(name))]
    first = next((match for match in found if match[4] == "safetensors"), found[0] if found else None)
    if first is None:
        return []
    stem, number, count, ending = first.groups()
    return [f"{stem}-{one:0{len(number)}}-of-{count}.{ending}" for one in range(1, int(count) + 1)]


def indexed(index: Path) -> list[str]:
    """Return the weight files that an index lists.

    Raises:
        CheckpointError: The file is not a valid index.
    """
    try:
        return sorted(set(read_json(index)["weight_map"].values()))
    except CheckpointError:
        raise
    except (OSError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError("index_unreadable", path=index, reason=error) from error


def check_files(name: str, files: Iterable[str]) -> None:
    """Refuse a checkpoint for another program, unless there are also weights for transformers.

    Args:
        name: name of the checkpoint in messages: a hub id or a path.
        files: paths of all files, relative to the repository or folder.

    Raises:
        CheckpointError: The checkpoint is for another program; the message names its format and what runs it.
    """
    found = set(files)
    if not found.isdisjoint(WEIGHTS) or shards(found):
        return
    for file, what in BY_NAME.items():
        if file in found:
            raise CheckpointError("of_another_program", name=name, what=what)
    endings = {PurePosixPath(file).suffix.lower() for file in found}
    for ending, what in BY_ENDING.items():
        if ending in endings:
            raise CheckpointError("of_another_program", name=name, what=what)


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that was converted for MLX.

    Args:
        name: name of the checkpoint in messages: a hub id or a path.
        config: content of its `config.json`.

    Raises:
        CheckpointError: The checkpoint is for MLX; the message says what runs it.
    """
    if name.startswith("mlx-community/") or _is_mlx(config):
        raise CheckpointError("of_another_program", name=name, what=Sentence("is_mlx"))


def _is_mlx(config: Mapping[str, Any]) -> bool:
    """MLX writes group size and bits under "quantization", or under transformers' key, without a `quant_method`."""
    for key in ("quantization", "quantization_config"):
        section = config.get(key)
        if isinstance(section, Mapping) and "quant_method" not in section and {"group_size", "bits"} <= set(section):
            return True
    return False


def check_adapter(name: str, folder: Path) -> None:
    """Refuse a folder that contains an adapter (LoRA or similar), as it has to be said whether it is wanted.

    Args:
        name: name of the folder in messages.
        folder: folder of the files.

    Raises:
        CheckpointError: The folder is an adapter, and the message has the flags that load it on its base model; or an
            adapter lies beside a whole model, and is neither ignored nor added without a word.
    """
    files = [file.name for file in folder.iterdir()]
    if "adapter_config.json" not in files:
        return
    if any(file.startswith(("model", "pytorch_model")) for file in files):
        raise CheckpointError("adapter_beside_model", name=name)
    base = None
    with suppress(OSError, CheckpointError, AttributeError):
        adapter = read_json(folder / "adapter_config.json")
        base = adapter.get("base_model_name_or_path")
    raise CheckpointError("adapter_alone", name=name, base=base or Sentence("its_base_model"))


POINTER = b"version https://git-lfs.github.com/spec/v1"


def check_pointers(name: str, folder: Path) -> None:
    """Refuse a clone whose large files are still git-lfs pointers.

    Args:
        name: name of the folder in messages.
        folder: folder of the files.

    Raises:
        CheckpointError: Some files are pointers; the message names them.
    """
    pointers = sorted(file.name for file in folder.iterdir() if _is_pointer(file))
    if pointers:
        raise CheckpointError(
            "lfs_pointers" if len(pointers) > 1 else "lfs_pointer", name=name, files=first_of(pointers, 3)
        )


def first_of(names: Sequence[Parameter], most: int) -> Parameter:
    """Return the names as a parameter of a sentence: at most `most` of them, then the number of the others."""
    rest = len(names) - most
    return Sentence("and_more", names=list(names[:most]), more=rest) if rest > 0 else tuple(names)


def _is_pointer(file: Path) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > 1024:
            return False
        with file.open("rb") as content:
            return content.read(len(POINTER)) == POINTER
    except OSError:
        return False
