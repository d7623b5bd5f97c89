"""Files that visitors upload to the Gradio page: each visitor's are in their own folder, which nobody else can access.

Gradio itself derives the path of an upload from its content and name, so that two visitors can share one file, and
accepts any path that it can access as an upload.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import BinaryIO

from omnilmm.errors import InputError
from omnilmm.ui.upload import QUOTA_MIB

COOKIE, HEADER = "omnilmm_visitor", "x-omnilmm-visitor"  # `assets/page.js` sends both

_NAME = re.compile(r"[\w-]{16,64}", re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^\w.\- ()]+")
_NAME_LENGTH = 100


def owner_of(headers: Mapping[str, str]) -> str:
    """Return the upload folder of the sender of a request; empty if the request does not identify its browser.

    The name that a browser generated for itself is never disclosed and is not part of any path.
    """
    name = headers.get(HEADER) or ""
    if not name:
        with suppress(CookieError):
            cookie = SimpleCookie(headers.get("cookie") or "").get(COOKIE)
            name = cookie.value if cookie else ""
    return hashlib.sha256(name.encode()).hexdigest()[:32] if _NAME.fullmatch(name) else ""


class Uploads:
    """The uploads of all visitors.

    Args:
        folder: the parent of all visitors' folders.
        most_bytes: limit for one visitor's uploads together.
    """

    def __init__(self, folder: Path, most_bytes: int = QUOTA_MIB * 2**20) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def file(self, owner: str, given: str) -> Path:
        """Return the path of a visitor's own upload.

        Raises:
            InputError: It is not one; the message is the same whether there is such a file or not.
        """
        path = Path(os.path.realpath(given)) if owner and "\0" not in given else None
        if path is None or not path.is_relative_to(os.path.realpath(self.folder / owner)) or not path.is_file():
            raise InputError("not_your_upload")
        return path

    def place(self, owner: str, name: str) -> Path:
        """Return a path for a new file of a visitor, in a folder with an unguessable name."""
        folder = self.folder / owner / secrets.token_hex(16)
        folder.mkdir(parents=True, mode=0o700)
        plain = _NOT_IN_NAMES.sub("", Path(name.replace("\\", "/")).name).strip(" .")
        stem, suffix = os.path.splitext(plain)
        return folder / f"{stem[:_NAME_LENGTH] or 'file'}{suffix[:20]}"

    def save(self, owner: str, name: str, content: BinaryIO) -> Path:
        """Save a file for a visitor.

        Raises:
            OSError: There is no room for it; no partial file is left.
        """
        path = self.place(owner, name)
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
        except BaseException:
            self.discard(owner, str(path))
            raise
        return path

    def discard(self, owner: str, given: str) -> None:
        """Delete an upload of this visitor; any other path is ignored."""
        with suppress(InputError, OSError):
            path = self.file(owner, given)
            path.unlink()
            path.parent.rmdir()

    def forget(self, owner: str) -> None:
        """Delete all uploads of a visitor who has left."""
        if owner:
            shutil.rmtree(self.folder / owner, ignore_errors=True)

    def room(self, owner: str) -> int:
        """Return how many bytes a visitor may still upload."""
        used = 0
        for path in (self.folder / owner).glob("*/*"):
            with suppress(OSError):  # it may be deleted meanwhile
                used += path.stat().st_size
        return self.most_bytes - used
