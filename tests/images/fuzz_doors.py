"""The odd picture files through every door: `python -m tests.images.fuzz_doors [--only 50]`; `make fuzz` runs it.

`chat.py`, both pages and the API, each with the built-in model: every file is answered or refused in one line, nothing
fails, and at the end each door still answers.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from chat import OmniLMMChat
from omnilmm.api.app import application
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.ui.offer import Offer
from omnilmm.ui.texts import ENGLISH
from tests.api.serving import served
from tests.images import corpus
from tests.images.fuzz import MAX_CHARACTERS
from tests.stress import model
from tests.stress_pages import gradio_page, streamlit_page
from tests.stress_people import GradioTab, StreamlitTab

QUESTION = "What is it?"
WRONG = (ENGLISH.unexpected, ENGLISH.failed, "EXCEPTION")  # the last: how Streamlit shows one
Door = Callable[[bytes], str]  # what came of a file; AssertionError if something failed


@contextmanager
def _terminal(provider: ModelProvider, offer: Offer) -> Iterator[Door]:
    chat = OmniLMMChat(dtype="auto")

    def ask(content: bytes) -> str:
        try:
            asked = [{"role": "user", "content": QUESTION}]
            return chat.chat({"image": base64.b64encode(content).decode(), "question": asked})
        except OmniLMMError as error:
            return refused(str(error))

    yield ask


@contextmanager
def _api(provider: ModelProvider, offer: Offer) -> Iterator[Door]:
    with served(application(provider)) as address, httpx.Client(base_url=address, timeout=600, trust_env=False) as web:

        def ask(content: bytes) -> str:
            url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
            asked = {"model": "built-in", "messages": [{"role": "user", "content": parts}], "max_tokens": 8}
            answer = web.post("/v1/chat/completions", json=asked)
            if answer.is_success:
                return str(answer.json()["choices"][0]["message"]["content"])
            assert answer.status_code < 500, answer.text
            return refused(answer.json()["error"]["message"])

        yield ask


@contextmanager
def _gradio(provider: ModelProvider, offer: Offer) -> Iterator[Door]:
    with gradio_page(provider, offer) as page:
        yield lambda content: _asked(page.client.open(), content)


@contextmanager
def _streamlit(provider: ModelProvider, offer: Offer) -> Iterator[Door]:
    with streamlit_page(provider, offer) as page:
        yield lambda content: _asked(page.client.open(), content)


DOORS = {"chat.py": _terminal, "api": _api, "gradio": _gradio, "streamlit": _streamlit}


def _asked(tab: GradioTab | StreamlitTab, content: bytes) -> str:
    """In a tab of its own, so that no earlier answer is taken for this one."""
    try:
        answer, note = tab.ask(QUESTION, content, None)
        seen = tab.seen()
    except httpx.HTTPStatusError as error:
        return refused(error.response.json()["detail"] if error.response.is_client_error else error.response.text)
    finally:
        tab.leave()
    assert not any(words in seen for words in WRONG), "an unexpected error"
    return answer if note else ""


def refused(line: str) -> str:
    """Nothing is answered; why is said in one line."""
    assert "\n" not in line and 0 < len(line) < MAX_CHARACTERS and "The process" not in line, line
    return ""


def through(door: Door, files: list[tuple[str, bytes]]) -> list[str]:
    """What went wrong, and how much was answered."""
    wrong, answered = [], 0
    for name, content in [*files, ("a sound one", corpus.saved(corpus.drawing(), "PNG"))]:
        try:
            answer = door(content)
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
        else:
            answered += bool(answer)
    if not answer:
        wrong.append("the sound picture at the end was not answered")
    print(f"{len(files) + 1} files, {answered} answered", end=", ")
    return wrong


def main() -> int:
    """All files through all doors."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--only", type=int, default=None, help="so many files, spread over the corpus")
    only = flags.parse_args().only
    logging.disable()  # refusals of libraries, which belong in the log
    files = [(name, make()) for name, make in itertools.chain(corpus.files(), corpus.heavy())]
    files = files[:: max(1, len(files) // only)] if only else files
    wrong: list[str] = []
    with model() as (provider, offer):
        for name, door in DOORS.items():
            began_s = time.monotonic()
            with door(provider, offer) as ask:
                print(f"{name}:", end=" ")
                found = [f"{name}: {what}" for what in through(ask, files)]
            print(f"{len(found)} wrong, {time.monotonic() - began_s:.0f} s", flush=True)
            wrong += found
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
