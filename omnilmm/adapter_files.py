"""LoRA adapters as folders: recognised by their files, named together with their base model, and found nearby.

A model with an adapter is named "BASE + FOLDER", as `--model BASE --adapter FOLDER` makes it. Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from omnilmm.checkpoint_json import read_json
from omnilmm.errors import CheckpointError
from omnilmm.hub_cache import cached_name

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
WITH = " + "
STATES = "checkpoint-"  # folders with the saved states of a run, which are no results
MOST_FOUND = 20


@dataclass(frozen=True)
class AdapterFiles:
    """The files of an adapter.

    Attributes:
        name: the folder as it was given.
        folder: the folder.
        base: what it was trained for: a hub id or a path; None if it does not say.
        method: "LORA" or another method of PEFT.
        rank: of LoRA.
        revision: of the base on its hub; None if it does not say.
    """

    name: str
    folder: Path
    base: str | None
    method: str
    rank: int | None
    revision: str | None = None

    @property
    def title(self) -> str:
        """Its name as it is displayed."""
        return self.folder.resolve().name

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return next(self.folder / name for name in WEIGHTS if (self.folder / name).is_file())


def with_adapter(model: str, adapter: str | None) -> str:
    """Return the name of a model with an adapter."""
    return f"{model}{WITH}{adapter}" if adapter else model


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter, with or without a whole model beside it."""
    return (folder / CONFIG).is_file()


def read_adapter(name: str) -> AdapterFiles:
    """Read what a folder says about the adapter in it.

    Raises:
        CheckpointError: There is no such folder, or no adapter in it that can be used.
    """
    folder = Path(name).expanduser()
    if not is_adapter(folder):
        raise CheckpointError("no_adapter", name=name, file=CONFIG)
    config: Any = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise CheckpointError("no_json_object", path=folder / CONFIG)
    method = str(config.get("peft_type"))
    if method != "LORA":
        raise CheckpointError("adapter_method", name=name, method=method)
    if not any((folder / file).is_file() for file in WEIGHTS):
        raise CheckpointError("adapter_without_weights", name=name, files=WEIGHTS)
    base, rank = config.get("base_model_name_or_path"), config.get("r")
    return AdapterFiles(
        name,
        folder,
        str(base) if base else None,
        method,
        rank if isinstance(rank, int) else None,
        str(config["revision"]) if config.get("revision") else None,
    )


def is_for(files: AdapterFiles, *names: str) -> bool:
    """Return whether an adapter says that it was trained for a model of one of these names.

    A hub id, a copy of that repository in a folder of its name, and a folder of the hub's cache are the same model. An
    adapter that does not say anything is for any.
    """
    return files.base is None or bool({_short(files.base)} & {_short(name) for name in names if name})


def _short(name: str) -> str:
    """Return the part of a name that a hub id and a copy in a folder share: "owner/Model-2" -> "model-2"."""
    path = Path(name).expanduser()
    known = cached_name(path.resolve()) if path.is_dir() else None
    return PurePosixPath((known or name).replace("\\", "/").rstrip("/")).name.lower()


def found_near(*places: Path) -> Iterator[AdapterFiles]:
    """Yield the usable adapters in these folders and in the folders within, without the saved states of a run."""
    seen: set[Path] = set()
    for place in places:
        for config in sorted([*place.glob(f"*/{CONFIG}"), *place.glob(f"*/*/{CONFIG}")])[:MOST_FOUND]:
            folder = config.parent
            if folder.name.startswith(STATES) or folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            try:
                yield read_adapter(str(folder))
            except (CheckpointError, OSError):
                continue
