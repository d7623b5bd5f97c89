"""Starts and watches the child process in which llama.cpp runs, see `serving`. If it crashes, this program does not."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

from omnilmm.errors import CheckpointError, HardwareError, MissingPackageError

logger = logging.getLogger(__name__)

KEPT_LINES = 200  # of llama.cpp's log, for the reason of a failure
END_S = 5.0  # for the child to end by itself before it is killed
# Line of llama.cpp's log with an error: "0.00.004.594 E llama_model_load: …".
ERROR = re.compile(r"[\d.]+ E (?:\w+ +)?(?:\w+: )?(?P<text>.+)")
NO_MEMORY = re.compile(r"unable to allocate|failed to allocate|out of memory|bad_alloc", re.IGNORECASE)
WIDTHS = re.compile(r"text model \(n_embd = (\d+)\) and mmproj \(n_embd = (\d+)\)")


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        model, mmproj: the two files; an empty mmproj for a model that takes no pictures.
        alias: name of the model in its answers.
        context: context length of each slot in tokens.
        slots: conversations that are answered at once.
        threads: of the CPU; 0 for one per physical core.
        features: serve the outputs of each token instead of answers.
        exact: compute attention and caches in f32, for comparisons.
        cache_mib: memory for tokens of conversations that no slot has any more.
        on_cpu: leave the GPU alone.
        verbosity: of the log; 3 tells the reasons of failures.
    """

    model: str
    mmproj: str = ""
    alias: str = "model"
    context: int = 4096
    slots: int = 1
    threads: int = 0
    features: bool = False
    exact: bool = False
    cache_mib: int = 0
    on_cpu: bool = False
    verbosity: int = 3


def require_package() -> None:
    """Raise a `MissingPackageError` with the pip command unless llama.cpp is installed."""
    if find_spec("xllamacpp") is None:
        raise MissingPackageError("llama_cpp_missing")


def physical_cores() -> int:
    """Return the cores that this process may use, at most the physical ones: more threads make llama.cpp slower.

    OMP_NUM_THREADS, which limits torch, limits this number, too.
    """
    allowed = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(min(psutil.cpu_count(logical=False) or 1, allowed or 1, int(asked) if asked.isdecimal() else 1024), 1)


class LlamaServer:
    """A running server; use `stop` when it is not needed any more.

    Args:
        settings: what to serve.

    Attributes:
        url: its address, without "/v1".
        key: the key that it asks for.
        devices: names of the GPUs that it found, unless they are left alone.

    Raises:
        MissingPackageError: llama.cpp is not installed.
        CheckpointError: It could not load the files; the message has its reason.
        HardwareError: There was not enough memory.
    """

    def __init__(self, settings: Settings) -> None:
        require_package()
        self.settings, self.key, self.url = settings, secrets.token_urlsafe(24), ""
        self.devices: list[str] = []
        self._log: deque[str] = deque(maxlen=KEPT_LINES)
        command = [sys.executable, "-P", str(Path(__file__).with_name("serving.py"))]
        # A group of its own, so that Ctrl-C in the terminal reaches this program alone, which then stops the child.
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reading.start()
        try:
            self._wait_until_loaded()
        except BaseException:
            self.stop()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def has_ended(self, wait_s: float) -> bool:
        """Return whether the process ends within some seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        return not self.is_alive

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def reason(self) -> str:
        """The last error that it logged, in one line; how it ended if there is none."""
        found = [match["text"] for line in self._log if (match := ERROR.match(line))]
        code = self._process.poll()
        return found[-1].strip() if found else f"exit status {code}"

    def stop(self) -> None:
        """End the process, which frees its memory; answers in progress break off."""
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reading.join(END_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _wait_until_loaded(self) -> None:
        settings = asdict(self.settings) | {"key": self.key, "threads": self.settings.threads or physical_cores()}
        line = ""
        with suppress(OSError):
            if self._process.stdin and self._process.stdout:
                self._process.stdin.write(json.dumps(settings) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._reading.join(END_S)
            raise self._failure()
        ready = json.loads(line)
        self.url, self.devices = ready["url"], ready["devices"]

    def _failure(self) -> CheckpointError | HardwareError:
        log = "\n".join(self._log)
        name = Path(self.settings.model).name
        if NO_MEMORY.search(log):
            return HardwareError("llama_cpp_no_memory", name=name)
        if found := WIDTHS.search(log):
            mmproj = Path(self.settings.mmproj).name
            return CheckpointError("mmproj_of_another", mmproj=mmproj, name=name, width=found[2], expected=found[1])
        return CheckpointError("llama_cpp_cannot_load", name=name, reason=self.reason)

    def _read(self, stream: IO[str] | None) -> None:
        with suppress(ValueError):  # closed
            for line in stream or ():
                self._log.append(line.rstrip())
                logger.debug("llama.cpp: %s", line.rstrip())
