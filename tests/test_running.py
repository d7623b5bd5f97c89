"""Both pages as programs: killed while they answer, started again, and ended; in a network that leads nowhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.whole_page import CODE, ROOT

OWN_NETWORK = ["unshare", "--map-root-user", "--net"]


def own_network() -> list[str]:
    """What runs a program in a network of its own, where that is allowed."""
    can = shutil.which("unshare") and subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode == 0
    return OWN_NETWORK if can else []


@pytest.mark.timeout(700)
@pytest.mark.parametrize("page", ["web_demo.py", "web_demo_streamlit.py"])
def test_a_page_calls_nobody_says_nothing_of_what_was_said_and_leaves_nothing(page: str, tmp_path: Path) -> None:
    way = own_network()
    command = [*way, sys.executable, "-m", "tests.whole_page", page, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    print(page, figures)
    assert figures["answered"] and figures["answered without its files"]
    assert figures["attempts"] == []
    assert not way or (figures["packets"] == 0 and figures["counts"] == 1)
    assert figures["orphans"] == 0 and figures["left after kill and start"] == 0 and figures["left in the end"] == []
    assert figures["exit"] in (0, -15)
    written = (tmp_path / "stderr").read_text()
    assert CODE not in written and "Traceback" not in written, written[-3000:]
