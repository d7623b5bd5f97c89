"""With the network cut off everything starts and answers, and nothing even tries to go out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "assets" / "samples" / "circle.png"


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment in which programs cannot leave this machine; attempts are written to OFFLINE_LOG."""
    log = tmp_path / "attempts"
    log.touch()
    own = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    own = {key: value for key, value in own.items() if not key.lower().endswith("_proxy")}
    return own | {"PYTHONPATH": str(ROOT / "tests" / "offline"), "OFFLINE_LOG": str(log), "HOME": str(tmp_path)}


def attempts(environment: dict[str, str]) -> list[str]:
    return Path(environment["OFFLINE_LOG"]).read_text().split()


def test_the_block_blocks(offline: dict[str, str]) -> None:
    code = "import urllib.request as u; u.urlopen('http://example.org', timeout=5)"
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, check=False)
    assert done.returncode != 0
    assert attempts(offline) == ["example.org"]


def test_the_terminal_answers_and_says_in_one_line_what_would_have_to_be_downloaded(offline: dict[str, str]) -> None:
    """The pages in such a network are in `test_running.py`."""
    answered = ["--image", str(PICTURE), "What colour is the circle?"]
    refused = ["--model", "minicpm-v-4.6", "Hello"]  # small: fits anywhere
    wanted = f"open({offline['OFFLINE_LOG']!r}).read()"  # by the first
    code = f"import chat; print(chat.main({answered}), {wanted}); print(chat.main({refused}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=offline, capture_output=True, text=True)
    assert done.stdout == "The circle is red.\n0 \n1\n", done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert "cannot be fetched from the hub (openbmb/MiniCPM-V-4.6)" in errors[0]
    assert "Traceback" not in done.stderr
    assert set(attempts(offline)) == {"huggingface.co"}, "of the second alone"
