"""Checkpoints of other programs: told by the names of their files or by their `config.json`, and what would run them.

Nothing is loaded for it, so that many gigabytes need not be fetched before somebody hears that they do not help.
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

# What holds all weights, and what lists their files.
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(f"{name}.index.json" for name in SINGLE_FILES)
# All of them in the order in which transformers looks for them.
WEIGHTS = (SINGLE_FILES[0], INDEXES[0], SINGLE_FILES[1], INDEXES[1])
SHARD = re.compile(r"(model|pytorch_model)-(\d{1,5})-of-(\d{1,5})\.(safetensors|bin)")
BY_NAME = {"adapter_config.json": Sentence("is_adapter"), "model_index.json": Sentence("is_diffusers")}
# By the ending of a file's name, in the order in which they are looked for.
BY_ENDING = {".gguf": Sentence("is_gguf"), ".onnx": Sentence("is_onnx"), ".npz": Sentence("is_mlx_file")}


def shards(names: Iterable[str]) -> list[str]:
    """All weight files of a checkpoint that was cut into several, by those of their names that are there.

    A name says how many there are, so that no index is needed to know which one is missing.

    Args:
        names: of files, also of others.

    Returns:
        safetensors, or else pickles; none where nothing was cut.
    """
    found = [match for name in sorted(names) if (match := SHARD.fullmatch(name))]
    first = next((match for match in found if match[4] == "safetensors"), found[0] if found else None)
    if first is None:
        return []
    stem, number, count, ending = first.groups()
    return [f"{stem}-{one:0{len(number)}}-of-{count}.{ending}" for one in range(1, int(count) + 1)]


def indexed(index: Path) -> list[str]:
    """The weight files that an index names.

    Raises:
        CheckpointError: It cannot be read as one.
    """
    try:
        return sorted(set(read_json(index)["weight_map"].values()))
    except CheckpointError:
        raise
    except (OSError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError("index_unreadable", path=index, reason=error) from error


def check_files(name: str, files: Iterable[str]) -> None:
    """Refuse what is known to be of another program, where nothing of transformers lies beside it.

    Args:
        name: what to call it in messages: a hub id, or a path.
        files: names of all files of a repository or folder, with their folders in it.

    Raises:
        CheckpointError: What it is, and what would run it.
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
    """Refuse what is made for another program.

    Args:
        name: as above.
        config: a checkpoint's `config.json`.

    Raises:
        CheckpointError: What it is, and what would run it.
    """
    if name.startswith("mlx-community/") or _is_mlx(config):
        raise CheckpointError("of_another_program", name=name, what=Sentence("is_mlx"))


def _is_mlx(config: Mapping[str, Any]) -> bool:
    """MLX writes group size and bits under "quantization", lately also under transformers' key, and names no method."""
    for key in ("quantization", "quantization_config"):
        said = config.get(key)
        if isinstance(said, Mapping) and "quant_method" not in said and {"group_size", "bits"} <= set(said):
            return True
    return False


def check_adapter(name: str, folder: Path) -> None:
    """Refuse an adapter without the model that it was trained for, which it names.

    Args:
        name: what to call it in messages.
        folder: with its files; a whole checkpoint with an adapter beside it is none.

    Raises:
        CheckpointError: What it is, and its model.
    """
    files = [file.name for file in folder.iterdir()]
    if "adapter_config.json" not in files or any(file.startswith(("model", "pytorch_model")) for file in files):
        return
    base = None
    with suppress(OSError, CheckpointError, AttributeError):
        said = read_json(folder / "adapter_config.json")
        base = said.get("base_model_name_or_path")
    raise CheckpointError("adapter_alone", name=name, base=base or Sentence("another_model"))


POINTER = b"version https://git-lfs.github.com/spec/v1"


def check_pointers(name: str, folder: Path) -> None:
    """Refuse a clone whose large files did not come along: git-lfs leaves some lines in the place of each.

    Args:
        name: what to call it in messages.
        folder: with the files.

    Raises:
        CheckpointError: Which files are pointers.
    """
    pointers = sorted(file.name for file in folder.iterdir() if _is_pointer(file))
    if pointers:
        raise CheckpointError(
            "lfs_pointers" if len(pointers) > 1 else "lfs_pointer", name=name, files=first_of(pointers, 3)
        )


def first_of(names: Sequence[Parameter], most: int) -> Parameter:
    """Names for a sentence, only the first of very many."""
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
