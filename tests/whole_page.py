"""A page from its start to its end, and a start after it was killed, where nothing may leave the machine.

    python -m tests.whole_page web_demo.py FOLDER

`tests/test_running.py` runs it in a network of its own that leads nowhere, where there are such (Linux); there every
packet for elsewhere is counted. Python's own sockets are watched everywhere (`tests/offline`). Prints its figures as
JSON; what the programs wrote is in FOLDER.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from omnilmm.catalog import BUILT_IN, ROOT
from omnilmm.model_lookup import find
from tests.space import said

CODE = "a-secret-word"
CIRCLE = ROOT / "assets" / "samples" / "circle.png"
QUESTION, ANSWER = "What colour is the circle?", "The circle is red."
PATIENCE_S = 120.0
HEADER = "x-omnilmm-visitor"  # as `assets/page.js` sends it; importing it from the page would import Gradio


def raise_loopback() -> None:
    """In a new network even this machine's own address is down."""
    request = struct.pack("16sh14s", b"lo", 0x49, b"")
    with socket.socket() as line, suppress(OSError):
        fcntl.ioctl(line, 0x8914, request)  # SIOCSIFFLAGS: up, running, loopback


def packets_for_elsewhere() -> int:
    """How many found no way out since this network is there."""
    names, values = Path("/proc/net/snmp").read_text().splitlines()[:2]
    found = int(dict(zip(names.split(), values.split(), strict=True))["OutNoRoutes"])
    six = Path("/proc/net/snmp6")
    lines = six.read_text().splitlines() if six.exists() else []
    return found + sum(int(line.split()[1]) for line in lines if line.startswith("Ip6OutNoRoutes"))


class GradioUser:
    """Asks the Gradio page in another process, as its own script does."""

    def __init__(self, address: str) -> None:
        self.web = httpx.Client(base_url=address, timeout=PATIENCE_S, headers={HEADER: secrets.token_hex(20)})
        self.web.get("/").raise_for_status()
        config = self.web.get("/config").json()
        self.session, self.widgets = secrets.token_hex(6), {one["id"]: one for one in config["components"]}
        self.number, self.inputs = next(
            (event["id"], event["inputs"])
            for event in config["dependencies"]
            for widget, name in event["targets"]
            if name == "submit" and self.widgets[widget]["props"].get("elem_id") == "question"
        )
        self.load = next(
            event["id"]
            for event in config["dependencies"]
            if event["backend_fn"] and [name for _, name in event["targets"]] == ["load"]
        )
        self.event(self.load, ["{}", "en"])

    def event(self, number: int, data: list[Any]) -> str:
        """All that comes of an event."""
        asked = {"fn_index": number, "session_hash": self.session, "data": data}
        self.web.post("/gradio_api/queue/join", json=asked).raise_for_status()
        said = []
        with self.web.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                said.append(line)
                if "process_completed" in line:
                    break
        return "\n".join(said)

    def ask(self, text: str, name: str = "", content: bytes = b"") -> str:
        paths = self.web.post("/gradio_api/upload", files={"files": (name, content)}).json() if name else []
        box = {"text": text, "files": [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]}
        rest = [self.widgets[widget]["props"].get("value") for widget in self.inputs[1:]]
        return self.event(self.number, [box, *rest])


class StreamlitUser:
    """The same on the Streamlit page."""

    def __init__(self, address: str) -> None:
        from tests.streamlit_pages.stranger import Stranger

        self.stranger = Stranger(address)
        self.stranger.draw()

    def ask(self, text: str, name: str = "", content: bytes = b"") -> str:
        self.stranger.ask(text, *([(name, content)] if name else []))
        self.stranger.watch(lambda: not self.stranger.has("stop"), PATIENCE_S)
        return "\n".join(self.stranger.texts())


@contextmanager
def program(name: str, folder: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], str, Any]]:
    """The page as one starts it, its address, and somebody who asks."""
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "HOME": str(folder)}
    environment |= {"PYTHONPATH": str(ROOT / "tests" / "offline"), "OFFLINE_LOG": str(folder / "attempts")}
    command = [sys.executable, name, "--port", "0", "--model", str(model)]
    with (folder / "stderr").open("a") as errors:
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": errors, "text": True, "env": environment, "cwd": ROOT}
        with subprocess.Popen(command, **pipes) as process:
            try:
                address = said(process, r"http://[^ ]+:\d+")
                said(process, r"MiB of memory")
                yield process, address, GradioUser if name == "web_demo.py" else StreamlitUser
            finally:
                process.kill()


def ask_on(user: Any, kinds: Any, count: int, address: str) -> list[threading.Thread]:
    """So many people who ask again and again, until there is nobody to ask."""

    def go_on() -> None:
        with suppress(Exception):
            somebody = kinds(address)
            while True:
                somebody.ask(QUESTION, "circle.png", CIRCLE.read_bytes())

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    user.ask(QUESTION)  # they are at it
    return threads


def main() -> None:
    """See above."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    raise_loopback()
    begun = packets_for_elsewhere()
    (folder / "tmp").mkdir()
    (folder / "attempts").touch()
    shutil.copytree(find(BUILT_IN).location, folder / "model")
    figures: dict[str, Any] = {}
    with program(name, folder, folder / "model") as (process, address, kind):
        user = kind(address)
        figures["answered"] = ANSWER in user.ask(QUESTION, "circle.png", CIRCLE.read_bytes())
        user.ask(f"{CODE}?", f"{CODE}.png", b"no picture")
        user.ask(f"{CODE}?")
        ask_on(user, kind, 3, address)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        figures["orphans"] = len(alive)
    left = [path for path in (folder / "tmp").glob("omnilmm-*") if path.is_dir()]
    for path in left:
        os.utime(path, (0, 0))
    with program(name, folder, folder / "model") as (process, address, kind):
        figures["left after kill and start"] = sum(path.exists() for path in left)
        user = kind(address)
        shutil.rmtree(folder / "model")
        figures["answered without its files"] = ANSWER in user.ask(QUESTION, "circle.png", CIRCLE.read_bytes())
        ask_on(user, kind, 3, address)
        children, begun_s = psutil.Process(process.pid).children(recursive=True), time.monotonic()
        process.terminate()
        figures["exit"] = process.wait(PATIENCE_S)
        figures["seconds to end"] = round(time.monotonic() - begun_s, 1)
        figures["orphans"] += len(psutil.wait_procs(children, timeout=PATIENCE_S)[1])
    figures["left in the end"] = [str(path) for path in (folder / "tmp").glob("omnilmm-*")]
    figures["attempts"] = (folder / "attempts").read_text().split()
    figures["packets"] = packets_for_elsewhere() - begun
    with suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)  # this is counted, where there is a network to count in
    figures["counts"] = packets_for_elsewhere() - begun - figures["packets"]
    print(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)  # threads of those who still ask


if __name__ == "__main__":
    main()
