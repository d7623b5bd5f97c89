"""The files of a run: written whole or not at all, and what stops them from being written is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omnilmm.errors import OmniLMMError, TrainingError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn any error of the block, which writes into this folder, into one of ours.

    Raises:
        TrainingError: The folder cannot be written; safetensors and torch have errors of their own for a full disk.
    """
    try:
        yield
    except OmniLMMError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError("state_not_saved", folder=folder, reason=reason) from error


def write(path: Path, text: str) -> None:
    """Write a file; one that is there is replaced only once the new one is complete.

    Raises:
        TrainingError: It cannot be written; no partial file is left behind.
    """
    partial = path.with_name(f"{path.name}.part")
    with writing(path.parent):
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
