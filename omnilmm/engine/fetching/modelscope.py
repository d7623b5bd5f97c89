"""Downloads from ModelScope, through its own optional package."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from omnilmm.engine.events import Report
from omnilmm.engine.fetching.cache import (
    CONFIG,
    Check,
    require_checkpoint,
    require_space,
    wanted,
)
from omnilmm.engine.fetching.errors import HubError, reason_of


def snapshot(source: str, revision: str | None) -> Path | None:
    """Return the folder of a checkpoint on this disk, complete or not; None if there is none."""
    try:
        package = import_module("modelscope.hub.snapshot_download")
        return Path(package.snapshot_download(source, revision=revision, local_files_only=True))
    except Exception:  # not installed, or nothing there
        return None


def fetch(source: str, title: str, revision: str | None, report: Report | None, check: Check | None = None) -> Path:
    """Download the missing files of a checkpoint and return its folder."""
    try:
        api = import_module("modelscope.hub.api").HubApi()
        package = import_module("modelscope.hub.snapshot_download")
        sizes = {file["Path"]: int(file["Size"]) for file in api.get_model_files(source, revision=revision)}
    except Exception as error:  # the package's own errors cannot be imported here
        raise HubError("modelscope_fails", title=title, source=source, reason=reason_of(error)) from error
    names = sorted(wanted(sizes))
    require_checkpoint(source, sizes)
    total, done, turn = sum(sizes[name] for name in names), 0, threading.Lock()
    cache = Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()
    here = sum(
        path.stat().st_size for path in (cache / "models" / source.replace("/", "--")).rglob("*") if path.is_file()
    )

    class Progress:
        """Progress callback, instantiated by the package for each file."""

        def __init__(self, filename: str, file_size: int) -> None: ...

        def update(self, size: int) -> None:
            nonlocal done
            with turn:
                done += size
                if report:
                    report(min(done, total), total)

        def end(self) -> None: ...

    def obtain(names: Sequence[str]) -> Path:
        try:
            folder = package.snapshot_download(
                source, revision=revision, allow_patterns=names, progress_callbacks=[Progress]
            )
        except Exception as error:
            raise HubError("modelscope_interrupted", title=title, reason=reason_of(error)) from error
        return Path(folder)

    if check is not None and total > here:
        check(obtain([CONFIG]))
    require_space(title, total - here, cache, "MODELSCOPE_CACHE")
    return obtain(names)
