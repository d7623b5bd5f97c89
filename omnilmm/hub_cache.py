"""Find the checkpoint when a folder of the Hugging Face cache is given as a model.

    models--<owner>--<name>/{refs/main, snapshots/<commit>/config.json}

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from omnilmm.errors import CheckpointError
from omnilmm.sentences import Sentence

PREFIX = "models--"


def checkpoint_folder(folder: Path) -> Path:
    """Return the folder of the checkpoint files: a snapshot if it is in the Hugging Face cache, else the folder itself.

    The snapshot is the one of `refs/main`, else the newest.

    Args:
        folder: an existing folder.

    Raises:
        CheckpointError: The folder is a cache of models instead of one model, or a model without any snapshot.
    """
    if (folder / "config.json").exists():
        return folder
    model = folder.parent if folder.name == "snapshots" else folder
    if (model / "snapshots").is_dir():
        return _newest(model)
    named = [
        name for place in (folder, folder / "hub") for name in map(_name, sorted(place.glob(f"{PREFIX}*"))) if name
    ]
    if named:
        first, others = named[0], named[1:]
        if others:
            raise CheckpointError("several_cached_also", folder=folder, way=_use(first), others=others)
        raise CheckpointError("several_cached", folder=folder, way=_use(first))
    return folder


def cached_name(folder: Path) -> str | None:
    """Return the name, without owner, of the model whose snapshot a folder is; None if it is not a snapshot."""
    name = _name(folder.parent.parent) if folder.parent.name == "snapshots" else None
    return name and name.rpartition("/")[2]


def cached_commit(folder: Path) -> str | None:
    """Return the commit whose snapshot a folder is; None if it is not a snapshot."""
    return folder.name if folder.parent.name == "snapshots" and _name(folder.parent.parent) else None


def _newest(model: Path) -> Path:
    snapshots = [entry for entry in (model / "snapshots").iterdir() if entry.is_dir()]
    with suppress(OSError):
        main = (model / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshots = [entry for entry in snapshots if entry.name == main] or snapshots
    if not snapshots:
        name = _name(model)
        if name:
            raise CheckpointError("nothing_cached_of", folder=model, way=_use(name))
        raise CheckpointError("nothing_cached", folder=model)
    return max(snapshots, key=lambda entry: entry.stat().st_mtime)


def _use(name: str) -> Sentence:
    return Sentence("use_model", model=name, title=name)


def _name(model: Path) -> str | None:
    """Convert `models--owner--name` to owner/name; None for other folders."""
    is_model = model.name.startswith(PREFIX)
    return "/".join(model.name.removeprefix(PREFIX).split("--", 1)) if is_model else None
