"""The API alone and beside the Gradio page: as programs, and who gets in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from omnilmm.api.app import application
from omnilmm.api.fetching import fetch
from omnilmm.api.keys import KEY
from omnilmm.catalog import ROOT
from omnilmm.engine.local import LocalEngine
from omnilmm.errors import ImageError
from tests.pages.visitor import serve

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
    with serve(engine, login={"anna": "secret"}, api=application(engine, key="k")) as site:
        url = f"{site.address}v1/chat/completions"
        assert httpx.post(url, json=HELLO).status_code == 401
        headers = {"authorization": "Bearer k"}
        assert httpx.post(url, json=HELLO, headers=headers, timeout=60).json()["choices"][0]["message"]["content"]
        assert httpx.post(url, json=HELLO, headers=headers | {"origin": "http://evil.example"}).status_code == 403
        assert httpx.post(url, json=HELLO, headers=headers | {"host": "evil.example"}).status_code == 403
        assert httpx.get(f"{site.address}config").status_code == 401  # the page asks for its login as before


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        (["-m", "omnilmm.api"], ["--host", "0.0.0.0"]),  # noqa: S104
        (["web_demo.py"], ["--api", "--auth", "anna:secret"]),
        (["web_demo.py"], ["--api", "--share"]),
    ],
)
def test_others_need_a_key(program: list[str], flags: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != KEY}
    done = subprocess.run(
        [sys.executable, *program, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert KEY in done.stderr


def test_pictures_are_fetched_from_public_hosts_alone() -> None:
    for address in (
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://",
    ):
        with pytest.raises(ImageError, match="data URI"):
            fetch(address)
