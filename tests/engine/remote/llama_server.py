"""A real llama.cpp server as a program of its own, which a test can kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
CONTEXT = 16_384  # of each of its slots
SLOTS = 2


class LlamaServer:
    """A running server.

    Attributes:
        url: its address, ending in "/v1"; the same after a restart.
    """

    def __init__(self, model: Path, name: str = "tiny") -> None:
        self._model, self._name, self._port = model, name, 0
        self.start()

    def start(self, model: Path | None = None, name: str = "") -> None:
        """Start it, or start it again, perhaps with another model."""
        program = [sys.executable, "-m", "tests.engine.remote.llama_server"]
        command = [*program, str(model or self._model), name or self._name, str(self._port)]
        if not self._has_started(command):
            assert self._port, "the server did not start"
            wait_until(lambda: self._has_started(command))  # while its port is that of somebody's connection

    def _has_started(self, command: list[str]) -> bool:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        assert self._process.stdout
        address = self._process.stdout.readline().strip()
        if not address.startswith("http://127.0.0.1:"):
            self.kill()
            return False
        self._port, self.url = int(address.rpartition(":")[2]), f"{address}/v1"
        return True

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def busy(self) -> int:
        """How many of its slots are answering."""
        slots = httpx.get(self.url.removesuffix("/v1") + "/slots", timeout=30).json()
        return sum(slot["is_processing"] for slot in slots)


def main(model: str, name: str, port: str) -> None:
    """Serve until standard output, the test, is gone."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias, params.port = model, {name}, int(port)
    params.n_ctx, params.n_parallel, params.warmup = CONTEXT * SLOTS, SLOTS, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # a test run that is killed leaves none behind
        with suppress(InterruptedError):
            signal.sigtimedwait({signal.SIGTERM}, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
