"""Known holes in the versions that we install with, and that all of them are pinned.

    python -m tests.audit

`make audit` installs pip-audit (in an environment of its own) and runs this. It asks PyPI's vulnerability service about
every line of constraints.txt. Ends with 0 where nothing is known, 1 with what was found, and 2 where it could not ask.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
PIP_AUDIT = ROOT / ".venv" / "audit" / "bin" / "python"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==[^*\s]+$")


def _lines(path: Path) -> list[str]:
    stripped = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in stripped if line]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unpinned(root: Path = ROOT) -> list[str]:
    """What is wrong with the pins: lines that name no exact version, and requirements without one."""
    lines = _lines(root / "constraints.txt")
    pinned = {_plain(found[1]) for line in lines if (found := _PIN.match(line))}
    wrong = [f"constraints.txt: {line} names no exact version" for line in lines if not _PIN.match(line)]
    for file in REQUIREMENTS:
        names = [found[0] for line in _lines(root / file) if (found := _NAME.match(line))]
        wrong += [f"{file}: {name} is not in constraints.txt" for name in names if _plain(name) not in pinned]
    return wrong


def summary(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit code and the lines of pip-audit's report."""
    packages = report["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    if packages and len(skipped) == len(packages):
        return 2, ["The vulnerability service knows no package at all: nothing was audited. Is there a network?"]
    lines = [f"{package['name']}: not audited ({package['skip_reason']})" for package in skipped]
    found = [
        f"{package['name']} {package['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'none'}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    return int(bool(found)), [*lines, *(found or [f"{len(packages) - len(skipped)} packages: no known holes."])]


def main() -> int:
    """See above."""
    if wrong := unpinned():
        print(*wrong, sep="\n")
        return 1
    print("All requirements are pinned to exact versions in constraints.txt.")
    options = ["-r", "constraints.txt", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [str(PIP_AUDIT), "-m", "pip_audit", *options]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        code, lines = summary(json.loads(done.stdout))
    except FileNotFoundError:
        code, lines = 2, ["pip-audit is not installed: run make audit."]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        code, lines = 2, [f"The vulnerability service could not be asked ({reason[:200]}): nothing was audited."]
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
