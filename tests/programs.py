"""Runs the programs of the repository in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_REPORT = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    pass
print("\\nMODULES", *sys.modules)
"""


def modules_after(*command: str) -> set[str]:
    """Names of the modules that a program has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", _REPORT, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("MODULES ")[2].split())
