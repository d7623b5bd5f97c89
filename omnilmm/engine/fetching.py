"""Fetching: the folder of a checkpoint in the hub's own cache, and the bytes on the way there.

    listing (names, sizes, digests) -> what is missing -> is the disk large enough -> blobs -> snapshot folder

Files lie where every program that uses the hub looks for them: `blobs/<digest>`, `snapshots/<commit>/<name>`,
`refs/<revision>` (https://huggingface.co/docs/huggingface_hub/guides/manage-cache). The transfer is our own, because
`snapshot_download` of huggingface_hub 2.4 begins every file that was cut off from its start
(https://github.com/huggingface/huggingface_hub/issues/4196), compares no checksum and cannot be stopped. Here a file
goes on where it broke off and gets its name only with the right digest. The price: plain HTTP instead of parallel Xet.

ModelScope (`hub="modelscope"`) is asked through its own optional package. That has not been tried against the real
service: the tests only hold with which arguments it is called.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from omnilmm.errors import CheckpointError, ModelNotFoundError, OmniLMMError

Hub = Literal["huggingface", "modelscope"]
Report = Callable[[int, int], None]

# Weights, configuration, tokenizer, chat template; none of the code that lies beside them.
CHECKPOINT_FILES = ["*.safetensors", "*.bin", "*.json", "*.model", "*.txt", "*.jinja"]
# What holds all weights or lists their files, in the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
CONNECTIONS = 4
REPORT_S = 0.4
# So often a transfer may fail without a new byte; the wait before the next doubles each time, 15 s in all.
TRIES = 5
PAUSE_S = 0.5

logger = logging.getLogger(__name__)


class _HubError(CheckpointError):
    """The hub is out of reach or refuses; a whole copy on this disk does instead."""


def fetch(
    source: str,
    *,
    title: str,
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    report: Report | None = None,
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

    Raises:
        ModelNotFoundError: The hub has no such repository, or it has no such revision.
        CheckpointError: No network, a licence to be accepted, a disk that is too small, a download that broke off, a
            file whose checksum is wrong, a repository that is no checkpoint, or nothing whole on this disk offline.
    """
    from huggingface_hub import is_offline_mode

    if hub == "modelscope" and not find_spec("modelscope"):
        raise CheckpointError(f"{title} from ModelScope takes a package that is not installed: pip install modelscope")
    folder = _folder(source, revision, hub)
    absent = _missing(folder) if folder else "everything"
    if offline or is_offline_mode():
        if folder and not absent:
            return folder
        state = f"is not whole on this disk: {absent} is missing" if folder else "is not on this disk"
        raise CheckpointError(
            f"{title} ({source}{f' at {revision}' if revision else ''}) {state}, and nothing is fetched offline: start "
            "once without --offline (HF_HUB_OFFLINE), or give the folder of a copy with --model."
        )
    try:
        if hub == "modelscope":
            return _from_modelscope(source, title, revision, report)
        return _Download(source, title, revision, report).run()
    except (_HubError, ModelNotFoundError) as error:
        if not folder or absent:
            raise
        logger.warning("%s Using the copy on this disk instead: %s", error, folder)
        return folder


def cached(source: str, revision: str | None = None, hub: Hub = "huggingface") -> Path | None:
    """The folder if a whole checkpoint is on this disk already: `config.json` and every weight file; no network."""
    folder = _folder(source, revision, hub)
    return folder if folder and not _missing(folder) else None


@dataclass(frozen=True)
class _File:
    """A file of the hub and its places in the cache.

    Attributes:
        name: in the repository.
        size: in bytes.
        blob: where its content lies, called by its digest: SHA-256, or git's SHA-1 for small files.
        pointer: its name in the snapshot folder, a link to the blob.
    """

    name: str
    size: int
    blob: Path
    pointer: Path

    @property
    def partial(self) -> Path:
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    @property
    def here(self) -> int:
        """Bytes of it on this disk."""
        if self.size in (_size(self.pointer), _size(self.blob)):
            return self.size
        return min(max(_size(self.partial), 0), self.size)

    @property
    def is_weights(self) -> bool:
        return self.name.endswith((".safetensors", ".bin"))


class _Download:
    """One call of `fetch` that uses the network."""

    def __init__(self, source: str, title: str, revision: str | None, report: Report | None) -> None:
        from huggingface_hub import constants

        self.source, self.title, self.revision, self.report = source, title, revision or "main", report
        self.endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.commit = ""
        self.stop = threading.Event()

    def run(self) -> Path:
        """Fetch what is missing; the snapshot folder."""
        files = self._listing()
        repository = _repository(self.source)
        snapshot = repository / "snapshots" / self.commit
        if any(_size(file.pointer) != file.size for file in files):
            try:
                self._fetch(files, repository)
            except OSError as error:
                raise CheckpointError(
                    f"{self.title} cannot be written to {repository}: {error.strerror or error}. Free some space, or "
                    f"set {_cache_variable()} to another folder."
                ) from error
        # Not before: until then an older copy that is whole stays the one that is found without network.
        with suppress(OSError):  # a cache that is whole may be read-only
            self._note_revision(repository)
        return snapshot

    def _listing(self) -> list[_File]:
        """What to fetch, with its places in the cache."""
        from huggingface_hub import HfApi, constants

        try:
            info = HfApi(endpoint=self.endpoint).model_info(
                self.source, revision=self.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
            repository, self.commit = _repository(self.source), _hex(info.sha, 40)
            chosen = _chosen(sibling.rfilename for sibling in info.siblings)
            digests = {
                sibling.rfilename: _hex(sibling.lfs.sha256, 64) if sibling.lfs else _hex(sibling.blob_id, 40)
                for sibling in info.siblings
                if sibling.rfilename in chosen
            }
            sizes = {sibling.rfilename: int(sibling.size) for sibling in info.siblings if sibling.rfilename in chosen}
        except Exception as error:  # the network libraries below have no common ancestor
            raise self._explained(error) from error
        _require_checkpoint(self.source, chosen)
        snapshot = repository / "snapshots" / self.commit
        return [
            _File(name, sizes[name], repository / "blobs" / digests[name], snapshot / name) for name in sorted(chosen)
        ]

    def _fetch(self, files: list[_File], repository: Path) -> None:
        for folder in ("blobs", f"snapshots/{self.commit}", f"../.locks/{repository.name}"):
            (repository / folder).mkdir(parents=True, exist_ok=True)
        total = sum(file.size for file in files)

        def tell() -> None:
            if self.report:
                self.report(sum(file.here for file in files), total)

        with _alone(repository.parent / ".locks" / repository.name / "omnilmm.lock", tell):
            _require_space(self.title, total - sum(file.here for file in files), repository)
            if not (repository / "refs" / self.revision).exists():
                self._note_revision(repository)  # so that a first download that breaks off can be told from none
            # Weights last: whoever finds all of them finds the rest too.
            for is_weights in (False, True):
                self._fetch_together([file for file in files if file.is_weights is is_weights], tell)

    def _fetch_together(self, files: list[_File], tell: Callable[[], None]) -> None:
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

    def _obtain(self, file: _File) -> None:
        """Transfer a file, compare its digest, and put it into the snapshot folder."""
        if self.stop.is_set() or _size(file.pointer) == file.size:
            return
        if _size(file.blob) != file.size:
            self._transfer(file)
            is_intact = _digest_is(file.partial, file.blob.name, self.stop)
            if self.stop.is_set():
                return
            if not is_intact:
                file.partial.unlink()
                raise CheckpointError(
                    f"{file.name} of {self.title} came damaged: its checksum is not that of the hub. It was deleted; "
                    "run the same command again to fetch it once more."
                )
            file.partial.replace(file.blob)
        file.pointer.unlink(missing_ok=True)
        try:
            file.pointer.symlink_to(os.path.relpath(file.blob, file.pointer.parent))
        except OSError:  # Windows without the right to make links
            file.blob.replace(file.pointer)

    def _transfer(self, file: _File) -> None:
        """Append to the partial file until it is whole; short interruptions are waited for."""
        from huggingface_hub.errors import HTTPError

        if _size(file.partial) > file.size:
            file.partial.unlink()
        file.partial.touch()
        failures = 0
        while (begin := _size(file.partial)) < file.size and not self.stop.is_set():
            cause: Exception | None = None
            try:
                self._append(file, begin)
            except HTTPError as error:
                if 400 <= _status(error) < 500 and _status(error) not in (408, 429):
                    raise self._explained(error) from error
                cause = error
            failures = 0 if _size(file.partial) > begin else failures + 1
            if failures == TRIES:
                raise _HubError(
                    f"The download of {self.title} from {self._hub} broke off in {file.name} at "
                    f"{_gib(_size(file.partial))} of {_gib(file.size)} ({_reason(cause)}): run the same command "
                    "again, it goes on where it stopped."
                ) from cause
            if _size(file.partial) < file.size:
                self.stop.wait(PAUSE_S * 2**failures)

    def _append(self, file: _File, begin: int) -> None:
        from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.source, file.name, revision=self.commit, endpoint=self.endpoint)
        # Positions count in the file, not in a packed form of it.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
        with get_session().stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            # A server that knows no ranges sends the file from its beginning.
            with file.partial.open("ab" if response.status_code == 206 else "wb") as partial:
                for block in response.iter_bytes():
                    partial.write(block)
                    if self.stop.is_set() or partial.tell() > file.size:
                        return

    def _note_revision(self, repository: Path) -> None:
        reference = repository / "refs" / self.revision
        if self.revision == self.commit or (_size(reference) > 0 and reference.read_text() == self.commit):
            return
        reference.parent.mkdir(parents=True, exist_ok=True)
        written = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        written.write_text(self.commit)
        written.replace(reference)  # at once, nobody reads half of it

    @property
    def _hub(self) -> str:
        if self.endpoint == "https://huggingface.co":
            return "the hub"
        return f"the mirror {self.endpoint} (set by HF_ENDPOINT)"

    def _explained(self, error: Exception) -> OmniLMMError:
        """What went wrong at the hub, in one line."""
        from huggingface_hub import errors

        if isinstance(error, errors.HFValidationError):
            return ModelNotFoundError(f"{self.source!r} cannot be a hub id: expected owner/name.")
        if isinstance(error, errors.GatedRepoError):
            return _HubError(
                f"{self.title} is given out under a licence that has to be accepted first: do so on "
                f"https://huggingface.co/{self.source}, then log in with `hf auth login` or set HF_TOKEN."
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return ModelNotFoundError(
                f"{self.source} has no revision {self.revision!r} on {self._hub}: give a branch, a tag or a commit, or "
                "none for the newest."
            )
        if "Invalid credentials" in str(error):
            return _HubError(
                f"{self._hub[0].upper()}{self._hub[1:]} does not accept your token: log in again with `hf auth login`, "
                "or unset HF_TOKEN."
            )
        is_file = isinstance(error, errors.EntryNotFoundError)
        if isinstance(error, errors.RepositoryNotFoundError) or (_status(error) in (401, 404) and not is_file):
            return ModelNotFoundError(
                f"There is no model {self.source!r} on {self._hub}, or it is private: check its name, or log in with "
                "`hf auth login` or HF_TOKEN."
            )
        is_network = isinstance(error, (errors.HTTPError, OSError))
        reason = _reason(error) if is_network else "what answers there is no hub"
        return _HubError(
            f"{self.title} cannot be fetched from {self._hub} ({self.source}): {reason}. Check the network"
            f"{' and HF_ENDPOINT' if 'mirror' in self._hub else ''}, or give the folder of a copy with --model."
        )


def _from_modelscope(source: str, title: str, revision: str | None, report: Report | None) -> Path:
    """The same from ModelScope, through its own package."""
    try:
        api = import_module("modelscope.hub.api").HubApi()
        package = import_module("modelscope.hub.snapshot_download")
        sizes = {file["Path"]: int(file["Size"]) for file in api.get_model_files(source, revision=revision)}
    except Exception as error:  # the package has errors of its own, which cannot be named here
        raise _HubError(f"{title} cannot be fetched from ModelScope ({source}): {_reason(error)}.") from error
    chosen = sorted(_chosen(sizes))
    _require_checkpoint(source, chosen)
    total, done, turn = sum(sizes[name] for name in chosen), 0, threading.Lock()
    cache = Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()
    here = sum(
        path.stat().st_size for path in (cache / "models" / source.replace("/", "--")).rglob("*") if path.is_file()
    )
    _require_space(title, total - here, cache, "MODELSCOPE_CACHE")

    class Progress:
        """Made by the package for each file."""

        def __init__(self, filename: str, file_size: int) -> None: ...

        def update(self, size: int) -> None:
            nonlocal done
            with turn:
                done += size
                if report:
                    report(min(done, total), total)

        def end(self) -> None: ...

    try:
        return Path(
            package.snapshot_download(source, revision=revision, allow_patterns=chosen, progress_callbacks=[Progress])
        )
    except Exception as error:
        raise _HubError(
            f"The download of {title} from ModelScope broke off ({_reason(error)}): run the same command again."
        ) from error


def _chosen(names: Iterable[str]) -> set[str]:
    """Which files to fetch. Only plain names: nothing of what a hub answers may lead out of the folder."""
    plain = {name for name in names if re.fullmatch(r"\w[\w.+ -]*", name)}
    wanted = {name for name in plain if any(fnmatchcase(name, pattern) for pattern in CHECKPOINT_FILES)}
    if wanted.isdisjoint(WEIGHTS[:2]):
        return wanted
    return {name for name in wanted if not name.endswith((".bin", ".bin.index.json"))}


def _require_checkpoint(source: str, names: Iterable[str]) -> None:
    names = set(names)
    absent = "weights" if names.isdisjoint(WEIGHTS) else "" if "config.json" in names else "config.json"
    if absent:
        raise CheckpointError(f"{source} is no checkpoint that can be used here: it has no {absent} of transformers.")


def _require_space(title: str, needed: int, folder: Path, variable: str = "") -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise CheckpointError(
            f"{title} needs {_gib(needed)}, {_gib(free)} free in {folder}: free some space or set "
            f"{variable or _cache_variable()} to another disk."
        )


def _cache_variable() -> str:
    return "HF_HUB_CACHE" if os.environ.get("HF_HUB_CACHE") else "HF_HOME"


def _repository(source: str) -> Path:
    """Where the hub's cache keeps a model; the environment is read now, the hub's library read it at its import."""
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    cache = os.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
    return Path(os.path.expandvars(cache)).expanduser() / f"models--{source.replace('/', '--')}"


def _folder(source: str, revision: str | None, hub: Hub) -> Path | None:
    """Where a checkpoint lies on this disk, whole or not."""
    if hub == "modelscope":
        try:
            package = import_module("modelscope.hub.snapshot_download")
            return Path(package.snapshot_download(source, revision=revision, local_files_only=True))
        except Exception:  # not installed, or nothing there
            return None
    repository, commit = _repository(source), revision or "main"
    with suppress(OSError, ValueError):
        commit = (repository / "refs" / commit).read_text().strip()
    with suppress(OSError, ValueError):  # a cache that this user may not read is none
        snapshot = repository / "snapshots" / commit
        return snapshot if snapshot.is_dir() else None
    return None


def _missing(folder: Path) -> str:
    """The first file that a checkpoint lacks, "" if it is whole."""
    if not (folder / "config.json").is_file():
        return "config.json"
    found = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None or not found.endswith(".index.json"):
        return "" if found else WEIGHTS[0]
    try:
        parts = set(json.loads((folder / found).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return found
    return next((name for name in sorted(parts) if not (folder / name).is_file()), "")


@contextmanager
def _alone(path: Path, tell: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process fetches the same model; what it does is progress here too."""
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
    """Whether a file has that SHA-256, or that SHA-1 of git (40 digits)."""
    if len(digest) == 64:
        state = hashlib.sha256()
    else:
        state = hashlib.sha1(f"blob {_size(path)}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while not stop.is_set() and (block := content.read(1 << 20)):
            state.update(block)
    return state.hexdigest() == digest


def _hex(digest: str, length: int) -> str:
    """A digest that may become the name of a file."""
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", digest):
        raise ValueError(f"{digest!r} is no digest")
    return digest


def _size(path: Path) -> int:
    """In bytes, -1 where there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _status(error: Exception | None) -> int:
    """Of an answer over HTTP, 0 where there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _reason(error: Exception | None) -> str:
    if status := _status(error):
        return f"it answered with status {status}"
    return (str(error or "the connection was closed").strip() or type(error).__name__).splitlines()[0].rstrip(".")
