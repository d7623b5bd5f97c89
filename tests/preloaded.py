"""A Python that has imported the libraries already, for tests which start many programs as a shell does.

Most of a start is the import of torch, transformers and Gradio. A server imports them once, and what stands in for
`python` asks it for a process: a fork with the caller's arguments, folder, environment and streams, to which signals
are passed on, and whose exit code comes back; it is killed when its caller is. Of this repository nothing is imported
before. What depends on the order of imports is not seen in such a process. Elsewhere than on Linux `python` stays as it
is.

    python tests/preloaded.py SOCKET    serves
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
passed_on = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
line.connect({address!r})
given = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2]).tobytes()
line.sendmsg([len(given).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
line.sendall(given)
said = line.recv(4, socket.MSG_WAITALL)
if len(said) < 4:
    sys.exit("no process came from tests/preloaded.py")
def pass_on(number, _):
    try:
        os.kill(int.from_bytes(said, "big"), number)
    except ProcessLookupError:  # it has just ended
        pass
for number in passed_on:
    signal.signal(number, pass_on)
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
code = line.recv(1)
sys.exit(code[0] if code else 1)
"""


@contextmanager
def preloaded(programs: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """While this is open, `python` in the folder of programs of a virtual environment has the libraries imported.

    The interpreter itself is `python-itself` beside it.

    Args:
        programs: the folder.
        environment: that in which the libraries are imported; some read it only then.
    """
    python, real = programs / "python", programs / "python-itself"
    if sys.platform != "linux":  # each start imports the libraries itself
        real.symlink_to(python)
        yield
        real.unlink()
        return
    with tempfile.TemporaryDirectory(prefix="preloaded-", dir="/tmp") as folder:  # an address has 107 bytes
        address = f"{folder}/socket"
        python.rename(real)
        try:
            python.write_text(CLIENT.format(python=sys._base_executable, address=address), encoding="utf-8")  # type: ignore[attr-defined]
            python.chmod(0o755)
            with _server(real, address, environment):
                yield
        finally:
            real.replace(python)


@contextmanager
def _server(python: Path, address: str, environment: Mapping[str, str]) -> Iterator[None]:
    command = [python, __file__, address]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            is_ready = server.stdout.readline() == b"ready\n"
            assert is_ready, "tests/preloaded.py did not start: its errors are in what this test wrote to stderr"
            yield
        finally:
            server.kill()


def serve(address: str) -> list[str]:
    """Fork a process for each that connects, until this one is killed.

    Returns:
        In each of those processes: the arguments of its program.
    """
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
    size, sent, *_ = line.recvmsg(4, socket.CMSG_SPACE(12), socket.MSG_WAITALL)
    if len(size) < 4:
        raise EOFError("whoever asked for a process is gone")
    given = b""
    while len(given) < int.from_bytes(size, "big"):
        if not (piece := line.recv(2**16)):
            raise EOFError("whoever asked for a process is gone")
        given += piece
    streams = array.array("i", sent[0][2])
    if program := os.fork():
        try:
            for stream in streams:
                os.close(stream)
            _watch(program, line)
        finally:  # whatever goes wrong, this process is no second one that runs the program
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


def _watch(program: int, line: socket.socket) -> None:
    """Say the number of a process and its exit code; kill it when whoever asked for it is gone."""
    end = os.pidfd_open(program)
    with suppress(BrokenPipeError):
        line.sendall(program.to_bytes(4, "big"))
    if end not in select.select([end, line], [], [])[0]:
        os.kill(program, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with suppress(BrokenPipeError):
        line.sendall(bytes([code if code >= 0 else 128 - code]))


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
