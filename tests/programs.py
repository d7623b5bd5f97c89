"""Runs the programs of the repository in processes of their own."""

from __future__ import annotations

import site
import subprocess
import sys
import venv
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


def environment_with_these_libraries(home: Path) -> Path:
    """A fresh virtual environment that takes the libraries of this one, as if they had been installed there.

    Returns:
        The folder of its programs.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(home)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "installed.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    for program in Path(sys.executable).parent.iterdir():
        if not (home / "bin" / program.name).exists():
            (home / "bin" / program.name).symlink_to(program)
    return home / "bin"
