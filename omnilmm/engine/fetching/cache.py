"""The hub's cache on this disk: which files of a checkpoint are needed, where they are, and which are missing.

The layout is the hub's own, shared by all programs that use it: `blobs/<digest>`, `snapshots/<commit>/<name>`,
`refs/<revision>` (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from omnilmm.errors import CheckpointError
from omnilmm.formats import WEIGHTS, check_files, indexed, shards
from omnilmm.hardware import gib
from omnilmm.sentences import Sentence

Check = Callable[[Path], None]  # takes a folder with its config.json; raises if the rest is not worth downloading
# Takes the sizes of a repository's files, and returns the names of those to download.
Select = Callable[[Mapping[str, int]], Sequence[str]]
CONFIG = "config.json"

# Weights, configuration, tokenizer, chat template; never the code in the repository.
CHECKPOINT_FILES = ["*.safetensors", "*.bin", "*.json", "*.model", "*.txt", "*.jinja"]


def repository_of(source: str) -> Path:
    """Return a model's folder in the hub's cache.

    The environment is read on every call, while huggingface_hub reads it only at import.
    """
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    cache = os.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
    return Path(os.path.expandvars(cache)).expanduser() / f"models--{source.replace('/', '--')}"


def snapshot(source: str, revision: str | None) -> Path | None:
    """Return the snapshot folder of a model's revision, complete or not; None if there is none."""
    at, commit = repository_of(source), revision or "main"
    with suppress(OSError, ValueError):
        commit = (at / "refs" / commit).read_text().strip()
    with suppress(OSError, ValueError):  # an unreadable cache counts as absent
        folder = at / "snapshots" / commit
        return folder if folder.is_dir() else None
    return None


def missing(folder: Path) -> str:
    """Return the first file missing from a checkpoint, "" if it is complete."""
    if not (folder / CONFIG).is_file():
        return CONFIG
    found = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        parts = set(shards(file.name for file in folder.iterdir())) or {WEIGHTS[0]}
    elif not found.endswith(".index.json"):
        return ""
    else:
        try:
            parts = set(indexed(folder / found))
        except CheckpointError:
            return found
    return next((name for name in sorted(parts) if not (folder / name).is_file()), "")


def plain(names: Iterable[str]) -> set[str]:
    """Return the plain names among those of a repository, so that no path can lead out of the folder."""
    return {name for name in names if re.fullmatch(r"\w[\w.+ -]*", name)}


def wanted(names: Iterable[str]) -> set[str]:
    """Return which files to download."""
    useful = {name for name in plain(names) if any(fnmatchcase(name, pattern) for pattern in CHECKPOINT_FILES)}
    if useful.isdisjoint(WEIGHTS[:2]) and not (useful.isdisjoint(WEIGHTS) and _are_safe(shards(useful))):
        return useful
    return {name for name in useful if not name.endswith((".bin", ".bin.index.json"))}


def _are_safe(parts: list[str]) -> bool:
    return bool(parts) and parts[0].endswith(".safetensors")


def require_checkpoint(source: str, names: Iterable[str]) -> None:
    """Refuse a repository (CheckpointError) that has no weights or no configuration among its files.

    Args:
        source: hub id, for the message.
        names: names of all its files, including those not downloaded: they show what the repository contains instead.
    """
    names = set(names)
    check_files(source, names)
    parts = shards(names) if names.isdisjoint(WEIGHTS) else []  # without an index, the file names give the shards
    lacking = [CONFIG, *parts] if parts or not names.isdisjoint(WEIGHTS) else [Sentence("weights")]
    absent = next((name for name in lacking if name not in names), None)
    if absent:
        raise CheckpointError("no_checkpoint_in_repository", source=source, missing=absent)


def require_space(title: str, needed: int, folder: Path, variable: str = "") -> None:
    """Refuse a download (CheckpointError) for which there is not enough disk space.

    Args:
        title: name of the model in messages.
        needed: size of the download in bytes.
        folder: the target folder; it need not exist yet.
        variable: environment variable that moves the folder; the hub's own if empty.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise CheckpointError(
            "disk_too_small",
            title=title,
            needed=gib(needed),
            free=gib(free),
            folder=folder,
            variable=variable or cache_variable(),
        )


def cache_variable() -> str:
    """Return the environment variable that sets the location of the hub's cache."""
    return "HF_HUB_CACHE" if os.environ.get("HF_HUB_CACHE") else "HF_HOME"


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, -1 if there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
