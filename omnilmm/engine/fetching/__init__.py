"""Fetching: the folder of a checkpoint in the hub's own cache, and the bytes on the way there.

    listing (names, sizes, digests) -> what is missing -> config.json -> can it run -> is the disk large enough
        -> blobs -> snapshot folder

`cache` knows where files lie, `download` brings those that are missing, `errors` says what went wrong at the hub.
ModelScope (`hub="modelscope"`) is asked through its own optional package. That has not been tried against the real
service: the tests only hold with which arguments it is called.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from omnilmm.engine.events import Report
from omnilmm.engine.fetching import modelscope
from omnilmm.engine.fetching.cache import Check, missing, snapshot
from omnilmm.engine.fetching.download import Download
from omnilmm.engine.fetching.errors import HubError
from omnilmm.errors import CheckpointError, ModelNotFoundError
from omnilmm.sentences import Sentence

Hub = Literal["huggingface", "modelscope"]

logger = logging.getLogger(__name__)


def fetch(
    source: str,
    *,
    title: str,
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    report: Report | None = None,
    check: Check | None = None,
) -> Path:
    """The folder of a checkpoint in the hub's cache, after fetching what is missing.

    A whole copy on this disk is used, with a warning in the log, where the hub cannot be reached or refuses.

    Args:
        source: hub id, "owner/name".
        title: what to call the model in messages.
        revision: commit, tag or branch; None for the newest.
        hub: where to fetch from.
        offline: touch no network; so it is too where HF_HUB_OFFLINE is set.
        report: told bytes on this disk and bytes in all, at least twice a second while something is fetched, in the
            calling thread (ModelScope: in threads of its package, one at a time, when something came). What it raises
            stops the download; what has come is kept.
        check: given the folder as soon as its `config.json` is there, before anything else is fetched; what it raises
            ends the call. Not called where nothing has to be fetched.

    Raises:
        ModelNotFoundError: The hub has no such repository, or it has no such revision.
        CheckpointError: No network, a licence to be accepted, a disk that is too small, a download that broke off, a
            file whose checksum is wrong, a repository that is not a checkpoint, or nothing whole on this disk offline.
    """
    from huggingface_hub import is_offline_mode

    if hub == "modelscope" and not find_spec("modelscope"):
        raise CheckpointError("modelscope_missing", title=title)
    folder = _folder(source, revision, hub)
    absent = missing(folder) if folder else "everything"
    if offline or is_offline_mode():
        if folder and not absent:
            return folder
        where = Sentence("at_revision", source=source, revision=revision) if revision else source
        way = Sentence("go_online")
        if folder:
            raise CheckpointError("not_whole_offline", title=title, source=where, missing=absent, way=way)
        raise CheckpointError("not_here_offline", title=title, source=where, way=way)
    try:
        if hub == "modelscope":
            return modelscope.fetch(source, title, revision, report, check)
        return Download(source, title, revision, report, check).run()
    except (HubError, ModelNotFoundError) as error:
        if not folder or absent:
            raise
        logger.warning("%s Using the copy on this disk instead: %s", error, folder)
        return folder


def cached(source: str, revision: str | None = None, hub: Hub = "huggingface") -> Path | None:
    """The folder if a whole checkpoint is on this disk already: `config.json` and every weight file; no network."""
    folder = _folder(source, revision, hub)
    return folder if folder and not missing(folder) else None


def _folder(source: str, revision: str | None, hub: Hub) -> Path | None:
    """Where a checkpoint lies on this disk, whole or not."""
    return modelscope.snapshot(source, revision) if hub == "modelscope" else snapshot(source, revision)
