"""Folders of uploads: one goes with its program, or with the next start after that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from omnilmm.ui import leftovers

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from omnilmm.ui.leftovers import own_folder
print(own_folder(), flush=True)
sys.stdin.readline()
"""


def test_what_killed_programs_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}

    def start() -> tuple[subprocess.Popen[str], Path]:
        program = subprocess.Popen([sys.executable, "-c", PROGRAM], **pipes)  # type: ignore[call-overload]
        folder = Path(program.stdout.readline().strip())
        (folder / "upload.png").write_bytes(b"x")
        os.utime(folder, (0, 0))
        return program, folder

    killed, left = start()
    running, used = start()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (tmp_path / f"{leftovers.PREFIX}of-another-program").mkdir()
    third, own = start()
    assert not left.exists() and used.exists() and own.exists()
    assert (tmp_path / f"{leftovers.PREFIX}of-another-program").exists()
    for program in (running, third):
        program.communicate("\n")
    assert not used.exists() and not own.exists()
