"""What is typed at a terminal, in a real one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UP, LEFT = b"\x1b[A", b"\x1b[D"


def test_a_line_can_be_edited_and_called_back() -> None:
    script = "from omnilmm.ui.streams import read_line\nprint('said', [read_line('> ') for _ in range(3)], 'end')"
    ours, theirs = pty.openpty()
    program = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=theirs, stdout=theirs)
    os.close(theirs)
    try:
        for typed in (b"a catt" + LEFT + b"\x7f\n", UP + b"s\n", UP + UP + b"\n"):
            read_until(ours, b"> ")
            os.write(ours, typed)
        assert "said ['a cat', 'a cats', 'a cat'] end" in read_until(ours, b"end")
    finally:
        program.kill()
        program.wait()
        os.close(ours)


def read_until(terminal: int, end: bytes) -> str:
    """What a program writes until that; a program that has ended is an error."""
    shown = b""
    while end not in shown:
        shown += os.read(terminal, 1000)
    return shown.decode()
