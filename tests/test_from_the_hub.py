"""From a hub to an answer: the terminal program against a hub on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnilmm.catalog import BUILT_IN
from omnilmm.model_lookup import find
from tests.engine.local_hub import LocalHub, serving

ROOT = Path(__file__).parents[1]
QUESTION = ("--image", "assets/samples/circle.png", "What colour is the circle?")
CODE = {"modeling_minicpmv.py": b"raise SystemExit('code of the checkpoint was run')"}


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    """The built-in model as if it were somebody's on the hub."""
    files = {path.name: path.read_bytes() for path in Path(find(BUILT_IN).location).iterdir()}
    with serving(LocalHub(files | CODE, source="someone/drawings")) as hub:
        yield hub


# The program with the libraries imported once: each command is a fork, with streams of its own.
PROGRAM = """
import json, os, sys
import chat, omnilmm.engine.loading
print("ready", flush=True)
for line in os.fdopen(os.dup(0)):
    arguments, *streams = json.loads(line)
    if not os.fork():
        for number, path in enumerate([os.devnull, *streams]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        sys.exit(chat.main(arguments))
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture
def chat(hub: LocalHub, tmp_path: Path) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the terminal program about the model of the hub: its exit code, output and notes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*"}
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    out, notes = tmp_path / "out", tmp_path / "notes"
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as program:

        def said() -> str:
            assert program.stdout
            line = program.stdout.readline()
            assert line, "the program ended early: its errors are in what this test wrote to stderr"
            return line

        def run(*arguments: str) -> tuple[int, str, str]:
            assert program.stdin
            program.stdin.write(json.dumps([["--model", "someone/drawings", *arguments], str(out), str(notes)]) + "\n")
            program.stdin.flush()
            return int(said()), out.read_text(), notes.read_text()

        try:
            assert said() == "ready\n"
            yield run
        finally:
            os.killpg(program.pid, signal.SIGKILL)


def test_a_model_is_fetched_with_a_bar_once_also_after_a_break_and_answers(
    hub: LocalHub, chat: Callable[..., tuple[int, str, str]]
) -> None:
    """What is not on the disk, or broke off, is one line."""
    code, _, notes = chat("--offline", *QUESTION)
    assert code == 1 and len(notes.splitlines()) == 1
    assert "is not on this disk" in notes and not hub.requests

    hub.cut_at = {"model.safetensors": 5_000_000}
    code, out, notes = chat(*QUESTION)
    assert code == 1 and not out
    assert "Error: " in notes.splitlines()[-1]

    hub.cut_at = {}
    code, out, notes = chat(*QUESTION)
    assert (code, out.strip()) == (0, "The circle is red."), notes
    assert "Downloading" in notes
    assert any(begin and begin != "bytes=0-" for begin in hub.ranges_of("model.safetensors"))
    assert not hub.asked & set(CODE) and hub.elsewhere == []

    asked = len(hub.requests)
    code, out, notes = chat("--offline", *QUESTION)
    assert (code, out.strip()) == (0, "The circle is red."), notes
    assert "Downloading" not in notes and len(hub.requests) == asked
    code, out, notes = chat("--check")
    assert code == 0, notes
    assert "all is well" in out and f"{find(BUILT_IN).parameters:,}" in out
