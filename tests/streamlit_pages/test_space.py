"""The Streamlit page as a Space: alone in the folder that `make space` writes, with the variables of the service."""

from __future__ import annotations

import socket
from pathlib import Path

from playwright.sync_api import Browser
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from deploy.space import main
from tests.pages.visitor import SAMPLES
from tests.space import said, started
from tests.streamlit_pages.person import Person


def test_the_streamlit_space_answers_also_about_an_upload(tmp_path: Path, browser: Browser) -> None:
    folder = tmp_path / "space"
    assert main([str(folder), "--page", "streamlit"]) == 0
    sample = SAMPLES["circle"]
    # As in the Dockerfile.
    with started(folder, "web_demo_streamlit.py", STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION="false") as server:
        port = said(server, r"http://[^ ]+:\d+").rpartition(":")[2]
        said(server, r" on (cpu|cuda|mps) \(")  # loading may take longer than a visitor's patience on a busy machine
        with browser.new_context(locale="en") as context:
            person = Person.arrives(context, f"http://127.0.0.1:{port}")
            person.ask(sample.question, sample.picture)
            assert person.answered() == sample.answer
        assert person.foreign == []
        assert opens_a_socket(int(port), "https://somebody-chat.hf.space")
        assert not opens_a_socket(int(port), "https://elsewhere.example")


def opens_a_socket(port: int, origin: str) -> bool:
    """Whether a page of that origin may talk to the server, which a proxy shows under the name of the Space."""
    place = socket.create_connection(("127.0.0.1", port))
    try:
        with connect("ws://somebody-chat.hf.space/_stcore/stream", origin=Origin(origin), sock=place):
            return True
    except InvalidStatus as refused:
        return refused.response.status_code != 403
