"""Memory and CPU time of this process, bounded for one request (the subprocess's side of `pool`).

The limit is CPU time, so that a busy machine does not cause refusals; the parent process limits wall-clock time, and
memory too where the system does not bound it (macOS, Windows).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

Answer = Callable[[dict[str, Any], bytes, int, BinaryIO], dict[str, Any]]
MOST_GROWN = 64 * 2**20  # bytes that memory may grow before the process is replaced

_STATM = Path("/proc/self/statm")


def serve(prepare: Callable[[], None], answer: Answer) -> None:
    """Answer requests from stdin until it is closed, or until memory has grown by `MOST_GROWN`.

    Args:
        prepare: runs before the first request, and before memory is counted.
        answer: gets a request, the bytes after it, the memory used without any request, and where to write replies;
            returns the last reply.
    """
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with the replies
    if not hasattr(signal, "setitimer"):  # no limit of CPU time will end it while it is busy
        end_with(int(sys.argv[1]))
    prepare()
    offer_to_the_system()
    base = used_bytes()
    send(replies, ready=True)
    while header := requests.readline():
        request = json.loads(header)
        try:
            last = answer(request, requests.read(request["bytes"]), base, replies)
            leaves = used_bytes() > base + MOST_GROWN
            send(replies, **last, leaves=leaves)
        except BrokenPipeError:
            return
        if leaves:
            return


def end_with(parent: int) -> None:
    """Exit as soon as another process has ended, whatever this one is doing then.

    Args:
        parent: its process id; the one that the system names may be a launcher's, which outlives the program.
    """
    import psutil  # type: ignore[import-untyped]  # only here

    def wait() -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(parent).wait()
        os._exit(1)

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


def send(replies: BinaryIO, **reply: Any) -> None:
    """Write one line of a reply."""
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def offer_to_the_system() -> None:
    """Ask that the system kills this process first if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def used_bytes() -> int:
    """Return the memory of this process that counts towards `RLIMIT_DATA`; 0 where the system does not bound it."""
    if not _STATM.exists():
        return 0
    return int(_STATM.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def allow(cpu_seconds: float, memory_bytes: int) -> None:
    """Limit CPU time from here on, and the memory of the process."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # SIGPROF kills it even in C code
    if _STATM.exists():
        bound_memory(memory_bytes)


def free() -> None:
    """Lift the limits between requests."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)
    if _STATM.exists():
        bound_memory(None)


def bound_memory(most: int | None) -> None:
    """Limit the memory of the process; None for as much as it may have."""
    import resource  # available wherever /proc is

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if most is None or (hard != resource.RLIM_INFINITY and most > hard):
        most = hard
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
