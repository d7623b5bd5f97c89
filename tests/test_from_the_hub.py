"""From a hub to an answer: the terminal program against a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
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


def chat(hub: LocalHub, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "*"}
    return subprocess.run(
        [sys.executable, "chat.py", "--model", "someone/drawings", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_a_model_of_the_hub_is_fetched_with_a_bar_once_and_answers(hub: LocalHub, tmp_path: Path) -> None:
    first = chat(hub, tmp_path, *QUESTION)
    assert (first.returncode, first.stdout.strip()) == (0, "The circle is red."), first.stderr
    assert "Downloading" in first.stderr
    assert not hub.asked & set(CODE) and hub.elsewhere == []
    asked = len(hub.requests)
    again = chat(hub, tmp_path, "--offline", *QUESTION)
    assert (again.returncode, again.stdout.strip()) == (0, "The circle is red."), again.stderr
    assert "Downloading" not in again.stderr and len(hub.requests) == asked


def test_a_download_that_broke_off_is_one_line_and_goes_on_the_next_time(hub: LocalHub, tmp_path: Path) -> None:
    hub.cut_at = {"model.safetensors": 5_000_000}
    broken = chat(hub, tmp_path, *QUESTION)
    assert broken.returncode == 1 and not broken.stdout
    assert "Error: " in broken.stderr.splitlines()[-1]
    hub.cut_at = {}
    checked = chat(hub, tmp_path, "--check")
    assert checked.returncode == 0, checked.stderr
    assert "all is well" in checked.stdout and f"{find(BUILT_IN).parameters:,}" in checked.stdout
    assert any(begin and begin != "bytes=0-" for begin in hub.ranges_of("model.safetensors"))


def test_what_is_not_on_the_disk_offline_is_one_line(hub: LocalHub, tmp_path: Path) -> None:
    done = chat(hub, tmp_path, "--offline", *QUESTION)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "is not on this disk" in done.stderr and not hub.requests
