"""A private folder for uploads, deleted when the program ends; after a kill, the next start deletes it.

Each program holds a lock in its folder for as long as it runs, so that no folder in use is deleted, not even where two
containers share a folder for temporary files and have equal process ids.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "omnilmm-"
LOCK = ".running"
JUST_MADE_S = 60.0  # until then its program may not have locked it yet


def own_folder() -> Path:
    """Create a private folder, and delete those of programs that ended without cleaning up."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        _clear(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = FileLock(folder / LOCK)
    lock.acquire(blocking=False)

    def remove() -> None:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _clear(folder: Path) -> None:
    """Delete a folder that no running program holds."""
    with suppress(OSError, Timeout):
        if folder.is_symlink() or not (folder / LOCK).is_file():
            return  # not one of ours
        if time.time() - folder.stat().st_mtime < JUST_MADE_S:
            return
        with FileLock(folder / LOCK, blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
