"""Pools of subprocesses with bounded memory and time (the parent's side of `bounds`).

    request ──> Pool ── one of a few `Process`es, kept warm ──> the reply, or a one-line error

A process is started for the first request. It is an ordinary subprocess, so the calling script needs no `__main__`
guard. An idle one exits with its parent, however that ends, since its stdin is closed then; a busy one with its reply,
or at its limit of CPU time, or on Windows, which has no such limit, at once. Other threads run while one waits.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any, ClassVar, Generic, Protocol, TypeVar

from omnilmm.errors import OmniLMMError
from omnilmm.sentences import Sentence

logger = logging.getLogger(__name__)
Reply = TypeVar("Reply")
Kind = TypeVar("Kind", bound="Process")

WALL = 4  # allowed seconds of wall-clock time per second of CPU time, for busy machines
START_S = 60.0
LOOK_S = 0.05  # interval at which time and memory are checked
LOOKS_AT_MEMORY = not sys.platform.startswith("linux")  # where the process cannot bound its own memory
MOST_LINE = 65_536  # bytes of one reply
MOST_SAID = 500  # bytes of one line of the log


class Bounds(Protocol):
    """Limits for one request, a dataclass; `size` is what the process has reported of the request, in its own unit."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def processes(self) -> int:
        """Number of processes."""

    def cpu_seconds(self, size: int = 0, /) -> float:
        """Return the allowed CPU time."""

    def memory_bytes(self, size: int = 0, /) -> int:
        """Return the allowed memory beyond the base usage of the process."""

    def too_slow(self, size: int = 0, /) -> Sentence:
        """Return the error message for a request that takes too long."""

    def too_much_memory(self, size: int = 0, /) -> Sentence:
        """Return the error message for a request that takes too much memory."""


class Process:
    """A subprocess that answers one request at a time.

    Args:
        program: Python code that it runs instead of `PROGRAM`.

    Raises:
        OmniLMMError: The process cannot be started; of the class `ERROR`, as all errors.
    """

    PROGRAM: ClassVar[str]
    ERROR: ClassVar[type[OmniLMMError]]

    def __init__(self, program: str = "") -> None:
        script = f"import sys; sys.path[:] = {sys.path!r}; {program or self.PROGRAM}"
        # Ctrl-C in a terminal signals the whole process group; the process exits when its stdin is closed instead.
        apart: dict[str, Any] = {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
        self.size = 0
        self._why: Sentence | None = None
        if not sys.executable or getattr(sys, "frozen", False):
            raise self.ERROR.of(self.not_started(Sentence("no_python")))
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", script, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                **apart,
            )
        except OSError as error:
            raise self.ERROR.of(self.not_started(error)) from error
        self._requests, self._replies = _pipe(self.process.stdin), _pipe(self.process.stdout)
        threading.Thread(target=_log, args=(_pipe(self.process.stderr),), name="process log", daemon=True).start()
        with self._watched(None):
            if not self._replies.readline(MOST_LINE):
                self.end()
                self.leave()
                raise self.ERROR.of(self.not_started(Sentence("ended_with", status=self.process.returncode)))
        self._base = self._rss() if LOOKS_AT_MEMORY else 0

    def not_started(self, reason: Sentence | OSError) -> Sentence:
        """Return the error message for a process that cannot be started."""
        raise NotImplementedError

    def ended(self, status: int | None) -> Sentence:
        """Return the error message for a process that ended within a request."""
        raise NotImplementedError

    def ask(self, request: dict[str, Any], content: bytes, bounds: Bounds, read: Callable[[], Reply]) -> Reply:
        """Send a request and its content, and read the reply; the process is killed if it fails to reply properly.

        Args:
            request: what the program expects besides the number of bytes and the limits.
            content: bytes that follow the request.
            bounds: limits on time and memory.
            read: reads the reply with `reply`, and raises `ERROR`, or ValueError, KeyError or TypeError if it is
                malformed.

        Raises:
            OmniLMMError: The request cannot be answered, or not within the limits.
        """
        self.size, self._why = 0, None
        try:
            with self._watched(bounds):
                header = json.dumps(request | {"bytes": len(content), "limits": asdict(bounds)})
                self._requests.write(header.encode() + b"\n")
                self._requests.write(content)
                self._requests.flush()
                return read()
        except OmniLMMError:  # the process stays usable
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:  # the process ended, or its reply is malformed
            self.end()
            raise self.ERROR.of(self._why or self._ended(bounds)) from error
        except BaseException:  # Ctrl-C: the rest of the reply would stay in the pipe
            self.end()
            raise

    def reply(self) -> dict[str, Any]:
        """Read one line of the reply."""
        reply = json.loads(self._replies.readline(MOST_LINE))
        if not isinstance(reply, dict):
            raise TypeError(f"no reply: {reply!r:.80}")
        return reply

    def content(self, count: int) -> bytes:
        """Read so many bytes that follow a line of the reply."""
        return self._replies.read(count)

    def finish(self, reply: dict[str, Any]) -> None:
        """Raise the error that the last line of a reply holds, if any."""
        if reply["leaves"]:
            self.end()
        if "error" in reply:
            raise self.ERROR.of(Sentence.from_json(reply["error"]))

    @property
    def is_there(self) -> bool:
        """Whether the process is still running."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill the process and wait for its end; safe from any thread."""
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Close the pipes; the process then exits, unless another process holds them open."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]

    def _ended(self, bounds: Bounds) -> Sentence:
        """Return why the process ended, from its exit status."""
        code = self.process.returncode
        if hasattr(signal, "SIGPROF") and code == -signal.SIGPROF:
            return bounds.too_slow(self.size)
        return self.ended(code)

    def _rss(self) -> int:
        import psutil  # type: ignore[import-untyped]  # only where the process cannot bound its memory

        with suppress(psutil.Error):
            return int(psutil.Process(self.process.pid).memory_info().rss)
        return 0

    @contextmanager
    def _watched(self, bounds: Bounds | None) -> Iterator[None]:
        """Kill the process if it exceeds its limits within the block; reading its replies then meets end of file."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done, bounds), name="process watch", daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()  # so that a process is not killed after it has replied

    def _watch(self, done: threading.Event, bounds: Bounds | None) -> None:
        began_s = time.monotonic()
        while not done.wait(LOOK_S):
            if self._is_excessive(bounds, time.monotonic() - began_s):
                self.end()
                return

    def _is_excessive(self, bounds: Bounds | None, taken_s: float) -> bool:
        """Return whether the process exceeds its limits, and store the reason."""
        if bounds is None:  # while it starts
            return taken_s > START_S
        if LOOKS_AT_MEMORY and self._rss() - self._base > bounds.memory_bytes(self.size):
            self._why = bounds.too_much_memory(self.size)
        elif taken_s > WALL * bounds.cpu_seconds(self.size):
            self._why = bounds.too_slow(self.size)
        return self._why is not None


class Pool(Generic[Kind]):
    """A bounded pool of processes, started on demand and kept for later requests.

    Args:
        start: starts a process.
    """

    def __init__(self, start: Callable[[], Kind]) -> None:
        self._start = start
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[Kind] = []
        self._busy = 0

    def lend(self, bounds: Bounds, use: Callable[[Kind], Reply]) -> Reply:
        """Use a process as soon as one is free.

        Raises:
            OmniLMMError: The process cannot be started, or `use` raised it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._busy < bounds.processes)
            self._busy += 1
            process = self._take()
        try:
            process = process or self._start()
            return use(process)
        finally:
            with self._changed:
                self._busy -= 1
                if process is not None:
                    self._idle.append(process)
                self._changed.notify()

    def _take(self) -> Kind | None:
        """Return an idle process, dropping those that have ended; None if there is none."""
        while self._idle:
            process = self._idle.pop()
            if process.is_there:
                return process
            process.leave()
        return None

    def end(self) -> None:
        """Kill the idle processes; other threads may still lend some."""
        while process := self._taken():
            process.end()
            process.leave()

    def _taken(self) -> Kind | None:
        with self._changed:
            return self._take()

    def leave(self) -> None:
        """Drop the processes without killing them: after a fork they belong to the parent."""
        for process in self._idle:
            process.leave()
            process.process.returncode = 0  # not a child of this process, so never wait for it
        self._begin()  # the lock, too: a thread of the parent may hold it


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _end() -> None:
    for pool in list(_pools):
        pool.end()


def _forked() -> None:
    for pool in list(_pools):
        pool.leave()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  # opened with PIPE
    return pipe


def _log(errors: IO[bytes]) -> None:
    with errors, suppress(OSError, ValueError):
        while line := errors.readline(MOST_SAID):
            logger.info("%s", line.decode("utf-8", "replace").rstrip())


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
