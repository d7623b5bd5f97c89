"""Starts what `make space` has written, alone in its folder, with the variables that the service sets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "somebody/chat",
    "SPACE_HOST": "somebody-chat.hf.space",
    "GRADIO_SERVER_NAME": "0.0.0.0",  # noqa: S104
    "GRADIO_NUM_PORTS": "1",
}


@contextmanager
def started(folder: Path, program: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The program as the service starts it: no flags, no environment of ours; any port, since 7860 may be taken."""
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "TMPDIR") if name in os.environ}
    environment = {**kept, "HOME": str(folder), **SPACE, "OMNILMM_FLAGS": "--port 0", **variables}
    command = [sys.executable, program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """Wait until the program prints something."""
    lines = []
    assert process.stdout
    for line in process.stdout:
        lines.append(line)
        if found := re.search(pattern, line):
            return found.group()
    raise AssertionError(f"it ended without {pattern!r}:\n{''.join(lines)}")
