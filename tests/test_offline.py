"""With the network cut off everything starts and answers, and nothing even tries to go out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "assets" / "samples" / "circle.png"


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment in which programs cannot leave this machine; attempts are written to OFFLINE_LOG."""
    log = tmp_path / "attempts"
    log.touch()
    return os.environ | {"PYTHONPATH": str(ROOT / "tests" / "offline"), "OFFLINE_LOG": str(log), "HOME": str(tmp_path)}


def attempts(environment: dict[str, str]) -> list[str]:
    return Path(environment["OFFLINE_LOG"]).read_text().split()


def test_the_block_blocks(offline: dict[str, str]) -> None:
    code = "import urllib.request as u; u.urlopen('http://example.org', timeout=5)"
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, check=False)
    assert done.returncode != 0
    assert attempts(offline) == ["example.org"]


def test_the_terminal_answers(offline: dict[str, str]) -> None:
    command = [sys.executable, "chat.py", "--image", str(PICTURE), "What colour is the circle?"]
    done = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "The circle is red.\n"), done.stderr
    assert attempts(offline) == []


def test_the_page_is_served(offline: dict[str, str]) -> None:
    command = [sys.executable, "web_demo.py", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=offline, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            address = next(
                found.group() for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
            with urllib.request.urlopen(address, timeout=30) as page:  # noqa: S310
                assert "gradio" in page.read().decode()
        finally:
            server.terminate()
    assert attempts(offline) == []


def test_a_model_that_would_have_to_be_downloaded_says_so_in_one_line(offline: dict[str, str]) -> None:
    command = [sys.executable, "chat.py", "--model", "minicpm-v-4.6", "Hello"]  # small: fits anywhere
    done = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert "cannot be fetched from the hub (openbmb/MiniCPM-V-4.6)" in errors[0]
    assert "Traceback" not in done.stderr
