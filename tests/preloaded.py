"""A Python that has imported the libraries already, for tests which start many programs as a shell does.

Most of a start is the import of torch, transformers and Gradio. A server imports them once, and what stands in for
`python` asks it for a process: a fork with the caller's arguments, folder, environment and streams, to which signals
are passed on, and whose exit code comes back. Of this repository nothing is imported before.

    python tests/preloaded.py SOCKET    serves
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

LIBRARIES = (
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.siglip.modeling_siglip",
    "uvicorn",
    "gradio",
)
CLIENT = """#!{python} -ISu
import array, json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
given = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2]).tobytes()
line.sendmsg([len(given).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
line.sendall(given)
program = int.from_bytes(line.recv(4), "big")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(program, number))
code = line.recv(1)
sys.exit(code[0] if code else 1)
"""


@contextmanager
def preloaded(programs: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """While this is open, `python` in the folder of programs of a virtual environment has the libraries imported.

    Args:
        programs: the folder.
        folder: where the socket is made.
        environment: that in which the libraries are imported; some read it only then.
    """
    python, real, address = programs / "python", programs / "python-itself", str(folder / "socket")
    python.rename(real)
    python.write_text(CLIENT.format(python=sys._base_executable, address=address), encoding="utf-8")  # type: ignore[attr-defined]
    python.chmod(0o755)
    with subprocess.Popen(
        [real, __file__, address], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout and server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()
            real.replace(python)


def serve(address: str) -> list[str]:
    """Fork a process for each that connects, until this one is killed.

    Returns:
        In each of those processes: the arguments of its program.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # as the package does, before they are imported
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        line, _ = listener.accept()
        if not (watcher := os.fork()):
            listener.close()
            return _program(line)
        line.close()
        os.waitpid(watcher, 0)


def _program(line: socket.socket) -> list[str]:
    """Return in the program alone; the process that waits for it is nobody's child, so that nobody waits for that."""
    if os.fork():
        os._exit(0)
    size, sent, *_ = line.recvmsg(4, socket.CMSG_SPACE(12))
    given = b""
    while len(given) < int.from_bytes(size, "big"):
        given += line.recv(2**16)
    streams = array.array("i", sent[0][2])
    if program := os.fork():
        for stream in streams:
            os.close(stream)
        line.sendall(program.to_bytes(4, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        line.sendall(bytes([code if code >= 0 else 128 - code]))
        os._exit(0)
    line.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()
    arguments, folder, environment = json.loads(given)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return list(arguments)


def run(kind: str, *arguments: str) -> None:
    """Run what a command line of Python names: `-c` with code, `-m` with a module, or a file."""
    if kind == "-c":
        sys.argv, sys.path[0] = [kind, *arguments[1:]], ""
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(arguments[0], "<string>", "exec", dont_inherit=True), sys.modules["__main__"].__dict__)  # noqa: S102
    elif kind == "-m":
        sys.argv, sys.path[0] = [*arguments], str(Path.cwd())
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [kind, *arguments], str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    run(*serve(sys.argv[1]))
