"""Folders of the hub's cache that somebody gives as a model: which checkpoint they mean.

    models--<owner>--<name>/{refs/main, snapshots/<commit>/config.json}

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from omnilmm.errors import CheckpointError

PREFIX = "models--"


def checkpoint_folder(folder: Path) -> Path:
    """The folder of the files: the newest snapshot of a model in the hub's cache, else the folder itself.

    Args:
        folder: that is there.

    Raises:
        CheckpointError: A cache of several models, or a model of it of which nothing was fetched.
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
        raise CheckpointError(
            f"{folder} is the hub's cache, which holds several models: give one by its name, --model {named[0]}"
            f"{' (also ' + ', '.join(named[1:]) + ')' if named[1:] else ''}."
        )
    return folder


def cached_name(folder: Path) -> str | None:
    """The name, without its owner, of the model whose snapshot a folder is; None if it is none."""
    name = _name(folder.parent.parent) if folder.parent.name == "snapshots" else None
    return name and name.rpartition("/")[2]


def _newest(model: Path) -> Path:
    snapshots = [entry for entry in (model / "snapshots").iterdir() if entry.is_dir()]
    with suppress(OSError):
        main = (model / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshots = [entry for entry in snapshots if entry.name == main] or snapshots
    if not snapshots:
        name = _name(model)
        raise CheckpointError(
            f"{model} is a folder of the hub's cache, and nothing has been fetched into it"
            f"{': give its name, --model ' + name if name else ''}."
        )
    return max(snapshots, key=lambda entry: entry.stat().st_mtime)


def _name(model: Path) -> str | None:
    """`models--owner--name` -> owner/name."""
    is_model = model.name.startswith(PREFIX)
    return "/".join(model.name.removeprefix(PREFIX).split("--", 1)) if is_model else None
