"""The pictures and videos for the next question on the Streamlit page: uploads, photos, clips, and what was refused."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import DeletedFile

from omnilmm.conversation import Picture, Video
from omnilmm.errors import OmniLMMError
from omnilmm.images.limits import too_large
from omnilmm.sentences import Sentence
from omnilmm.ui.session import Session
from omnilmm.ui.streamlit_page import server_state
from omnilmm.ui.texts import Texts
from omnilmm.ui.upload import open_upload

FILES = "uploads"  # key of the file uploader

log = logging.getLogger("omnilmm.page")


class Attachments:
    """The pictures and videos for a visitor's next question.

    Args:
        session: the visitor's session, in whose language files are refused.

    Attributes:
        pending: the pictures and videos.
        refused: which files were refused, for the visitor; cleared by the next file or question.
        refusals: how many of the processed uploads were not pictures.
        processed: ids of the uploads that were processed.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.pending: list[Picture | Video] = []
        self.refused, self.refusals = "", 0
        self.processed: set[str] = set()
        self._sizes: WeakKeyDictionary[Picture | Video, int] = WeakKeyDictionary()  # of the files of the pending ones

    def take_uploads(self) -> bool:
        """Add the uploaded pictures to the pending ones.

        Returns:
            Whether all of them are pictures.
        """
        new = [file for file in st.session_state.get(FILES) or () if file.file_id not in self.processed]
        self.processed.update(file.file_id for file in new)
        are_pictures = not new or self.add(*new)
        for file in new:
            _delete_upload(file)
        return are_pictures

    def add(self, *files: Any) -> bool:
        """Add pending pictures, skipping duplicates; a file that is not a picture is reported by name.

        Returns:
            Whether all of them are pictures.
        """
        refused, most = [], server_state.SERVER.quota_bytes
        for file in (file for file in files if not isinstance(file, DeletedFile)):
            held = sum(self._sizes.get(picture, 0) for picture in self.pending)
            if held + len(content := file.getvalue()) > most:
                refused.append(f"{file.name}: {self._session.texts.uploads_full.format(most=most >> 20)}")
                continue
            try:
                picture = open_upload(file.name, content, server_state.provider().card)
            except Exception as error:
                refused.append(error_line(self._session.texts, error, f"{file.name}: "))
            else:
                self._sizes[picture] = len(content)
                self.pending += [picture] if picture not in self.pending else []
        self.refused, self.refusals = "\n\n".join(refused), self.refusals + len(refused)
        return not refused

    def refuse_large(self, names: list[str], most_mib: int) -> None:
        """Report that files are too large to be uploaded."""
        self.refused = "\n\n".join(
            self._session.texts.translate(Sentence("of_file", name=name, reason=too_large(most_mib))) for name in names
        )

    def drop(self, picture: Picture | Video) -> None:
        """Remove a pending picture."""
        self.pending, self.refused = [other for other in self.pending if other != picture], ""

    def put_back(self, parts: list[Picture | Video]) -> None:
        """Return the pictures and videos of a question that has no answer."""
        self.pending = parts + self.pending

    def clear(self) -> None:
        """Remove everything."""
        self.pending, self.refused = [], ""


def error_line(texts: Texts, error: Exception, about: str = "") -> str:
    """Return an error as a line for the visitor; an unexpected one is logged.

    Args:
        texts: in the visitor's language.
        error: the error.
        about: begins the line of an unexpected error, e.g. the name of a file.
    """
    if isinstance(error, OmniLMMError):
        return texts.translate(error)
    log.error("A click failed", exc_info=error)
    return about + texts.unexpected


def _delete_upload(file: Any) -> None:
    """Release the bytes of an upload that was processed."""
    context = get_script_run_ctx()
    if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)
