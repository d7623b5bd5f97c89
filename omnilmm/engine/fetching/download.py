"""Downloads the missing files of a checkpoint from the hub into its cache.

The transfer is our own because `snapshot_download` of huggingface_hub 2.4 restarts interrupted files from the beginning
(https://github.com/huggingface/huggingface_hub/issues/4196), verifies no checksum and cannot be stopped. Here,
interrupted downloads resume, and a file gets its final name only if its digest is correct. The drawback: it uses plain
HTTP instead of parallel Xet.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from omnilmm.engine.events import Report
from omnilmm.engine.fetching.cache import (
    CONFIG,
    Check,
    Select,
    cache_variable,
    plain,
    repository_of,
    require_checkpoint,
    require_space,
    size_of,
    wanted,
)
from omnilmm.engine.fetching.errors import HubError, explained, interrupted, status_of
from omnilmm.errors import CheckpointError, OmniLMMError, OptionsError
from omnilmm.network import prepare_proxies

CONNECTIONS = 4
REPORT_S = 0.4
# Consecutive failures without a new byte before a transfer is given up; the pause before each retry doubles, 15 s in
# total.
TRIES = 5
PAUSE_S = 0.5


@dataclass(frozen=True)
class File:
    """A file of the hub and its paths in the cache.

    Attributes:
        name: name in the repository.
        size: size in bytes.
        blob: path of its content, named by its digest: SHA-256, or git's SHA-1 for small files.
        pointer: path in the snapshot folder, a link to the blob.
    """

    name: str
    size: int
    blob: Path
    pointer: Path

    @property
    def partial(self) -> Path:
        """The path of the incomplete content during the download."""
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    @property
    def here(self) -> int:
        """The number of its bytes on this disk."""
        # In the order in which its content moves on: a file that is moved meanwhile is found at the next place.
        partial = size_of(self.partial)
        if self.size in (size_of(self.blob), size_of(self.pointer)):
            return self.size
        return min(max(partial, 0), self.size)

    @property
    def is_weights(self) -> bool:
        """Whether it is a weight file."""
        return self.name.endswith((".safetensors", ".bin", ".gguf"))


class Download:
    """One call of `fetch` that uses the network."""

    def __init__(
        self,
        source: str,
        title: str,
        revision: str | None,
        report: Report | None,
        check: Check | None = None,
        select: Select | None = None,
    ) -> None:
        from huggingface_hub import constants

        self.source, self.title, self.revision, self.report = source, title, revision or "main", report
        self.check, self.select = check, select
        # Copied settings may contain white space and quotes, especially on Windows.
        endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).strip(" \t\r\n\"'").rstrip("/")
        self.endpoint = endpoint or "https://huggingface.co"
        self.commit = ""
        self.stop = threading.Event()

    def run(self) -> Path:
        """Download the missing files and return the snapshot folder."""
        try:
            prepare_proxies()
        except OptionsError as error:
            raise HubError("cannot_fetch", title=self.title, reason=error) from error
        files = self._listing()
        repository = repository_of(self.source)
        snapshot = repository / "snapshots" / self.commit
        if any(size_of(file.pointer) != file.size for file in files):
            try:
                self._fetch(files, repository)
            except OSError as error:
                raise CheckpointError(
                    "disk_not_writable",
                    title=self.title,
                    folder=repository,
                    reason=error.strerror or error,
                    variable=cache_variable(),
                ) from error
        # Only now, so that until then an older complete copy is the one found offline.
        with suppress(OSError):  # a complete cache may be read-only
            self._note_revision(repository)
        return snapshot

    def _listing(self) -> list[File]:
        """Return the files to download, with their paths in the cache."""
        from huggingface_hub import HfApi, constants

        try:
            info = HfApi(endpoint=self.endpoint).model_info(
                self.source, revision=self.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
            repository, self.commit = repository_of(self.source), _hex(info.sha, 40)
            names = [sibling.rfilename for sibling in info.siblings]
            chosen = wanted(names) if self.select is None else plain(names)
            digests = {
                sibling.rfilename: _hex(sibling.lfs.sha256, 64) if sibling.lfs else _hex(sibling.blob_id, 40)
                for sibling in info.siblings
                if sibling.rfilename in chosen
            }
            sizes = {sibling.rfilename: int(sibling.size) for sibling in info.siblings if sibling.rfilename in chosen}
        except Exception as error:  # the network libraries below have no common ancestor
            raise self._explained(error) from error
        if self.select is None:
            require_checkpoint(self.source, names)
        else:
            chosen = set(self.select(sizes))
        snapshot = repository / "snapshots" / self.commit
        return [
            File(name, sizes[name], repository / "blobs" / digests[name], snapshot / name) for name in sorted(chosen)
        ]

    def _fetch(self, files: list[File], repository: Path) -> None:
        for folder in ("blobs", f"snapshots/{self.commit}", f"../.locks/{repository.name}"):
            (repository / folder).mkdir(parents=True, exist_ok=True)
        total = sum(file.size for file in files)

        def tell() -> None:
            if self.report:
                self.report(sum(file.here for file in files), total)

        with _alone(repository.parent / ".locks" / repository.name / "omnilmm.lock", tell):
            if self.check is not None:  # before disk space is required for a model that may be refused
                self._fetch_together([file for file in files if file.name == CONFIG], tell)
                self.check(repository / "snapshots" / self.commit)
            require_space(self.title, total - sum(file.here for file in files), repository)
            if not (repository / "refs" / self.revision).exists():
                self._note_revision(repository)  # makes an interrupted first download detectable
            # Weights last: if they are complete, so is everything else.
            for is_weights in (False, True):
                self._fetch_together([file for file in files if file.is_weights is is_weights], tell)

    def _fetch_together(self, files: list[File], tell: Callable[[], None]) -> None:
        with ThreadPoolExecutor(CONNECTIONS, "fetching") as pool:
            running = {pool.submit(self._obtain, file) for file in files}
            try:
                while running:
                    done, running = wait(running, REPORT_S, FIRST_EXCEPTION)
                    tell()
                    for future in done:
                        future.result()
            except BaseException:
                self.stop.set()
                raise

    def _obtain(self, file: File) -> None:
        """Download a file, verify its digest, and link it into the snapshot folder."""
        if self.stop.is_set() or size_of(file.pointer) == file.size:
            return
        if size_of(file.blob) != file.size:
            self._transfer(file)
            is_intact = _digest_is(file.partial, file.blob.name, self.stop)
            if self.stop.is_set():
                return
            if not is_intact:
                file.partial.unlink()
                raise CheckpointError("download_damaged", file=file.name, title=self.title)
            file.partial.replace(file.blob)
        file.pointer.unlink(missing_ok=True)
        try:
            file.pointer.symlink_to(os.path.relpath(file.blob, file.pointer.parent))
        except OSError:  # Windows without permission to create links
            file.blob.replace(file.pointer)

    def _transfer(self, file: File) -> None:
        """Append to the partial file until it is complete; retries after short interruptions."""
        from huggingface_hub.errors import HTTPError

        if size_of(file.partial) > file.size:
            file.partial.unlink()
        file.partial.touch()
        failures = 0
        while (begin := size_of(file.partial)) < file.size and not self.stop.is_set():
            cause: Exception | None = None
            try:
                self._append(file, begin)
            except HTTPError as error:
                if 400 <= status_of(error) < 500 and status_of(error) not in (408, 429):
                    raise self._explained(error) from error
                cause = error
            except OSError:  # a disk error, handled in `run`
                raise
            except Exception as error:  # e.g. an invalid response of a proxy
                raise self._explained(error) from error
            failures = 0 if size_of(file.partial) > begin else failures + 1
            if failures == TRIES:
                done = size_of(file.partial)
                raise interrupted(self.title, self.endpoint, file.name, done, file.size, cause) from cause
            if size_of(file.partial) < file.size:
                self.stop.wait(PAUSE_S * 2**failures)

    def _append(self, file: File, begin: int) -> None:
        from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.source, file.name, revision=self.commit, endpoint=self.endpoint)
        # Range offsets refer to the uncompressed file.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
        with get_session().stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            # A server without range support sends the whole file.
            with file.partial.open("ab" if response.status_code == 206 else "wb") as partial:
                for block in response.iter_bytes():
                    partial.write(block)
                    if self.stop.is_set() or partial.tell() > file.size:
                        return

    def _note_revision(self, repository: Path) -> None:
        reference = repository / "refs" / self.revision
        if self.revision == self.commit or (size_of(reference) > 0 and reference.read_text() == self.commit):
            return
        reference.parent.mkdir(parents=True, exist_ok=True)
        written = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        written.write_text(self.commit)
        written.replace(reference)  # atomic: nobody reads a partial file

    def _explained(self, error: Exception) -> OmniLMMError:
        return explained(error, self.source, self.title, self.revision, self.endpoint)


@contextmanager
def _alone(path: Path, tell: Callable[[], None]) -> Iterator[None]:
    """Hold the model's download lock; while another process holds it, report the progress of that process."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(WeakFileLock(path, timeout=REPORT_S))
                break
            except Timeout:
                tell()
        yield


def _digest_is(path: Path, digest: str, stop: threading.Event) -> bool:
    """Return whether a file has the given SHA-256 (64 digits) or git SHA-1 (40 digits)."""
    if len(digest) == 64:
        state = hashlib.sha256()
    else:
        state = hashlib.sha1(f"blob {size_of(path)}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while not stop.is_set() and (block := content.read(1 << 20)):
            state.update(block)
    return state.hexdigest() == digest


def _hex(digest: str, length: int) -> str:
    """Return the digest if it is valid and therefore safe as a file name.

    Raises:
        ValueError: It is not a hexadecimal digest of that length.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", digest):
        raise ValueError(f"{digest!r} is no digest")
    return digest
