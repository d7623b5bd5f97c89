"""Downloads checkpoints from a hub into the hub's own cache.

    listing (names, sizes, digests) -> missing files -> config.json -> can it run -> is there enough disk space
        -> blobs -> snapshot folder

`cache` locates files on disk, `download` transfers the missing ones, `errors` explains failures of the hub.
ModelScope (`hub="modelscope"`) is accessed through its own optional package. It has not been tested against the real
service: the tests only check the arguments of the calls.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from omnilmm.engine.events import Report
from omnilmm.engine.fetching import modelscope
from omnilmm.engine.fetching.cache import Check, Select, missing, snapshot
from omnilmm.engine.fetching.download import Download
from omnilmm.engine.fetching.errors import HubError
from omnilmm.errors import CheckpointError, ModelNotFoundError, OmniLMMError
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
    """Download the missing files of a checkpoint and return its folder in the hub's cache.

    If the hub cannot be reached or refuses the request, a complete copy on this disk is used, with a warning in the
    log.

    Args:
        source: hub id, "owner/name".
        title: name of the model in messages.
        revision: commit, tag or branch; None for the newest.
        hub: the hub to download from.
        offline: do not access the network; the same applies if HF_HUB_OFFLINE is set.
        report: called with the bytes on this disk and the total bytes, at least twice a second during a download, on
            the calling thread (ModelScope: on threads of its package, one at a time, whenever data arrives). An
            exception it raises stops the download; downloaded data is kept.
        check: called with the folder as soon as its `config.json` is there, before anything else is downloaded; an
            exception it raises ends the call. Not called if there is nothing to download.

    Raises:
        ModelNotFoundError: The hub has no such repository or no such revision.
        CheckpointError: No network, a licence that was not accepted, not enough disk space, an interrupted download, a
            wrong checksum, a repository that is not a checkpoint, or no complete copy on this disk when offline.
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


def fetch_files(
    source: str,
    select: Select,
    *,
    title: str,
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    report: Report | None = None,
) -> Path:
    """Download some files of a repository, as `fetch` does, and return their folder in the hub's cache.

    Args:
        source: hub id, "owner/name".
        select: chooses from the sizes of the files by name; called again with those on this disk if the hub cannot be
            asked.
        title: name of the model in messages.
        revision: commit, tag or branch; None for the newest.
        hub: the hub to download from; ModelScope is not supported.
        offline: do not access the network.
        report: as for `fetch`.

    Raises:
        ModelNotFoundError, CheckpointError: As for `fetch`.
        Exception: Whatever `select` raises.
    """
    from huggingface_hub import is_offline_mode

    if hub == "modelscope":
        raise CheckpointError("files_not_from_modelscope", title=title, source=source)
    folder = snapshot(source, revision)
    if offline or is_offline_mode():
        if folder is None:
            where = Sentence("at_revision", source=source, revision=revision) if revision else source
            raise CheckpointError("not_here_offline", title=title, source=where, way=Sentence("go_online"))
        select(sizes_in(folder))
        return folder
    try:
        return Download(source, title, revision, report, select=select).run()
    except (HubError, ModelNotFoundError) as error:
        if folder is None:
            raise
        try:
            select(sizes_in(folder))
        except OmniLMMError:
            raise error from None  # what is here is not enough
        logger.warning("%s Using the copy on this disk instead: %s", error, folder)
        return folder


def sizes_in(folder: Path) -> dict[str, int]:
    """Return the sizes of the files in a folder by name."""
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


def snapshot_of(source: str, revision: str | None = None, hub: Hub = "huggingface") -> Path | None:
    """Return the folder of a repository on this disk, complete or not; None if there is none."""
    return _folder(source, revision, hub)


def cached(source: str, revision: str | None = None, hub: Hub = "huggingface") -> Path | None:
    """Return the folder if a complete checkpoint (`config.json` and all weight files) is on disk; no network access."""
    folder = _folder(source, revision, hub)
    return folder if folder and not missing(folder) else None


def _folder(source: str, revision: str | None, hub: Hub) -> Path | None:
    """Return the folder of a checkpoint on this disk, complete or not."""
    return modelscope.snapshot(source, revision) if hub == "modelscope" else snapshot(source, revision)
