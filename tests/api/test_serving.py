"""The API alone and beside the Gradio page: as programs, and who gets in."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from omnilmm.api.__main__ import main
from omnilmm.api.app import application
from omnilmm.api.fetching import fetch
from omnilmm.api.keys import KEY
from omnilmm.catalog import ROOT
from omnilmm.engine.local import LocalEngine
from omnilmm.errors import ImageError, OptionsError
from omnilmm.images.limits import Limits
from tests.pages.visitor import serve
from web_demo import checked_flags

HELLO = {"model": "built-in", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}


def test_alone() -> None:
    command = [sys.executable, "-m", "omnilmm.api", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != KEY}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        address = next(found[0] for line in program.stdout if (found := re.findall(r"http://\S+/v1", line)))
        try:
            answer = httpx.post(f"{address}/chat/completions", json=HELLO, timeout=120)  # waits for the model
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) in (0, -signal.SIGTERM)
        finally:
            program.kill()
    assert answer.json()["choices"][0]["message"]["content"]


def test_beside_the_page_with_a_key_of_its_own(engine: LocalEngine) -> None:
    with (
        serve(engine, login={"anna": "secret"}, api=application(engine, key="k")) as site,
        httpx.Client(timeout=60) as client,
    ):
        url = f"{site.address}v1/chat/completions"
        assert client.post(url, json=HELLO).status_code == 401
        headers = {"authorization": "Bearer k"}
        assert client.post(url, json=HELLO, headers=headers).json()["choices"][0]["message"]["content"]
        assert client.post(url, json=HELLO, headers=headers | {"origin": "http://evil.example"}).status_code == 403
        assert client.post(url, json=HELLO, headers=headers | {"host": "evil.example"}).status_code == 403
        assert client.get(f"{site.address}config").status_code == 401  # the page asks for its login as before


def test_others_need_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(KEY, raising=False)
    for flags in ("--auth=anna:secret", "--share", "--host=0.0.0.0"):
        with pytest.raises(OptionsError, match=KEY):
            checked_flags(["--api", "--port=0", flags])
    assert main(["--host=0.0.0.0"]) == 2 and KEY in capsys.readouterr().err
    monkeypatch.setenv(KEY, "k")
    checked_flags(["--api", "--port=0", "--share"])


def test_pictures_are_fetched_from_public_hosts_alone() -> None:
    for address in (
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://",
        "http://224.0.0.1/",
        "http://[64:ff9b::7f00:1]/",  # 127.0.0.1 behind a translator of addresses
        "http://[2002:7f00:1::]/",
    ):
        with pytest.raises(ImageError, match="data URI"):
            fetch(address)


def test_a_fetched_picture_comes_from_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host is looked up once: asked again, a name server could name a machine behind the firewall."""
    looked_up: list[str] = []
    look_up = socket.getaddrinfo

    def once(host: str, *arguments: Any, **more: Any) -> list[Any]:
        looked_up.append(host)
        named = ("127.0.0.2", "127.0.0.1") if host == "pictures.example" else (host,)  # nobody listens on the first
        return [found for name in named for found in look_up(name, *arguments, **more)]

    hosts: list[str] = []

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["host"])
            self.send_response({"/moved": 302}.get(self.path, 200))
            self.send_header("location", "/picture")
            self.end_headers()
            self.wfile.write(b"x" * (2 * 2**20 if self.path == "/large" else 3))

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(socket, "getaddrinfo", once)
    monkeypatch.setattr(ipaddress.IPv4Address, "is_global", True)  # as this machine's would be
    monkeypatch.setattr("omnilmm.api.fetching.limits", lambda: Limits(file_mb=1))
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://pictures.example:{server.server_port}"
        assert fetch(f"{url}/picture") == b"xxx"
        assert hosts == [url.removeprefix("http://")] and looked_up.count("pictures.example") == 1
        with pytest.raises(ImageError, match="302"):
            fetch(f"{url}/moved")
        with pytest.raises(ImageError, match="1 MiB"):
            fetch(f"{url}/large")
        server.shutdown()
