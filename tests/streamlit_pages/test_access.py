"""A login before the Streamlit page, in its real program, however it is started: a browser with it does everything."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.pages.visitor import SAMPLES
from tests.space import said
from tests.streamlit_pages.person import Person
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
ANNA = {"username": "anna", "password": "a secret: 密码"}
WAYS = {
    "python": ["web_demo_streamlit.py", "--port", "0"],
    "streamlit run": [*"-m streamlit run web_demo_streamlit.py --server.port 0 --server.headless true".split(), "--"],
}
FOREIGN_HOST, FOREIGN_ORIGIN = {"host": "evil.example"}, {"origin": "http://evil.example"}
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def status(address: str, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=PATIENCE_S) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("way", WAYS)
def test_with_a_login_pictures_and_answers_come_and_without_nothing(tmp_path: Path, browser: Browser, way: str) -> None:
    people = tmp_path / "people.txt"
    people.write_text(f"ben:other\n{ANNA['username']}:{ANNA['password']}\n", encoding="utf-8")
    command = [sys.executable, *WAYS[way], "--auth", str(people)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as server:  # type: ignore[call-overload]
        try:
            address = said(server, r"http://[^ ]+:\d+")
            assert status(address) == 401
            assert status(f"{address}/_stcore/health") == 401
            assert status(f"{address}/_stcore/upload_file/session/file", "PUT") == 401
            for headers in (FOREIGN_HOST, FOREIGN_ORIGIN):
                for upgrade in ({}, UPGRADE):
                    place = f"{address}/_stcore/{'stream' if upgrade else 'health'}"
                    assert httpx.get(place, headers=headers | upgrade, timeout=PATIENCE_S).status_code == 403
            sample = SAMPLES["circle"]
            with browser.new_context(locale="en", http_credentials=ANNA) as context:
                person = Person.arrives(context, address)
                person.ask(sample.question, sample.picture)
                assert person.answered() == sample.answer
            with browser.new_context(http_credentials=ANNA | {"password": "guessed"}) as wrong:
                refused = wrong.new_page().goto(address)
                assert refused and refused.status == 401
        finally:
            server.terminate()
    assert server.returncode in (0, -15)


def test_under_a_path_and_with_small_uploads(tmp_path: Path, browser: Browser) -> None:
    large = tmp_path / "large.png"
    Image.effect_noise((1600, 1600), 200).save(large)
    command = [sys.executable, "web_demo_streamlit.py", "--port", "0", "--root-path", "/chat", "--max-file-size", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            address = said(server, r"http://[^ ]+:\d+/chat")
            said(server, r" on (cpu|cuda|mps) \(")  # from here on nothing draws the page anew
            with browser.new_context(locale="en") as context:
                person = Person.arrives(context, address)
                person.page.locator("[data-testid=stChatInput] input[type=file]").first.set_input_files(str(large))
                expect(person.notice).to_contain_text("large.png: This picture file is larger than 1 MB")
                person.reload()
                sample = SAMPLES["circle"]
                person.ask(sample.question, sample.picture)
                assert person.answered() == sample.answer
                assert [request.url for request in person.foreign] == []
        finally:
            server.terminate()
