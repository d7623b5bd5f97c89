"""Which small faults would no test notice? `make mutants FILES="omnilmm/archive.py"`, or all files of a change.

    a file ── one change at a time, in a copy of the repository ── the tests that import it ──> green: nobody noticed

What is changed stands in `mutations.py`. Every run is forked from one process that has loaded the libraries, and the
working tree is never touched. mutmut leaves out decorated functions, `with` and whole statements, and runs every test
there is beforehand; cosmic-ray starts a process for each change, which takes longer to load torch than to run tests.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutations import Mutation, mutations
from tests.sources import BUILDING, MODULES, ROOT, imported, name_of

QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of libraries that are loaded already
TESTS = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pages" not in path.parent.name)


def tests_of(path: Path) -> list[str]:
    """The tests below the pages that import a file; where there is none, those of its users."""
    users = {file: {f"{name}." for name in imported(file)} for file in (*TESTS, *MODULES, *BUILDING)}
    names, known = {name_of(path)}, {path}
    while names:
        found = {file for file, used in users.items() if any(u.startswith(f"{name}.") for u in used for name in names)}
        if tests := sorted(str(file.relative_to(ROOT)) for file in found & set(TESTS)):
            return tests
        names, known = {name_of(file) for file in found - known}, known | found
    return []


def copied(folder: Path) -> None:
    """The working tree as it is, without what git ignores."""
    command = ["git", "ls-files", "-zco", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def load_libraries(paths: list[Path]) -> None:
    """Everything from elsewhere that these files import, so that no run has to."""
    own = {path.stem for path in ROOT.glob("*.py")} | {"omnilmm", "tests", "built_in"}
    for module, _, attribute in {name.rpartition(".") for path in paths for name in imported(path)}:
        if (module or attribute).split(".")[0] not in own:
            with contextlib.suppress(Exception):
                getattr(importlib.import_module(module or attribute), attribute, None)
    assert "omnilmm" not in sys.modules, "the runs would not see what is changed"


def run(folder: Path, arguments: list[str], limit_s: float) -> int | None:
    """Pytest's exit code in the copy, or None if it took too long."""
    child = os.fork()
    if not child:
        try:
            os.setsid()
            os.chdir(folder)
            with open("mutants.log", "wb") as log:
                os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
            sys.path[:] = [str(folder), *(entry for entry in sys.path if Path(entry).resolve() != ROOT)]
            for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
                del sys.modules[name]
            os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *QUIET, *arguments]))
        finally:  # whatever goes wrong, this process is no second one that tries the changes
            traceback.print_exc()
            os._exit(70)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def survivors(folder: Path, name: str, tests: list[str]) -> Iterator[Mutation]:
    """The changes of a file with which its tests are still green; SystemExit if they are not without any."""
    file, begin = folder / name, time.monotonic()
    source = file.read_bytes()
    if run(folder, tests, 3600) != 0:
        raise SystemExit(f"The tests of {name} are not green as it is:\n{(folder / 'mutants.log').read_text()}")
    limit_s = 10 + 3 * (time.monotonic() - begin)
    for mutation in mutations(source):
        _, start, end, new = mutation
        file.write_bytes(source[:start] + new.encode() + source[end:])
        shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)  # it is told by seconds and size
        if run(folder, tests, limit_s) == 0:
            yield mutation
    file.write_bytes(source)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Which small faults would no test notice?")
    parser.add_argument("files", nargs="*", help="else those that differ from --base")
    parser.add_argument("--base", default="main", help="a commit")
    parser.add_argument("--tests", nargs="+", help="files or node ids; else those that import the file")
    chosen = parser.parse_args()
    diff = subprocess.run(["git", "diff", "--name-only", chosen.base], cwd=ROOT, capture_output=True, text=True)
    ours = {str(path.relative_to(ROOT)): path for path in (*MODULES, *BUILDING)}
    files = chosen.files or [name for name in diff.stdout.splitlines() if name in ours]
    tests = {name: chosen.tests or tests_of(ROOT / name) for name in files}
    load_libraries(
        [ROOT / name.partition("::")[0] for name in {*files, *(one for some in tests.values() for one in some)}]
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"  # what stands beside it is nobody's, too
        copied(folder)
        for file in files:
            print(f"{file}: {', '.join(tests[file]) or 'no test below the pages imports it'}", flush=True)
            for line, start, end, new in survivors(folder, file, tests[file]) if tests[file] else ():
                old = (ROOT / file).read_bytes()[start:end].decode()
                print(f"{file}:{line}: {' '.join(old.split())[:80]}  ->  {' '.join(new.split())[:80]}", flush=True)


if __name__ == "__main__":
    main()
