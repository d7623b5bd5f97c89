"""Which small faults would no test notice? `make mutants FILES="omnilmm/archive.py"`, or all files of a change.

    a file ── one change at a time, in a copy of the repository ── the tests that import it ──> green: nobody noticed

The changes are slips: a comparison at its bound, a condition turned round, a number one too large, a call or `raise`
left out, a lock not taken. Every run is forked from one process that has loaded the libraries, and the working tree is
never touched. mutmut leaves out decorated functions, `with` and whole statements, and runs every test there is
beforehand; cosmic-ray starts a process for each change, which takes longer to load torch than to run the tests.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
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
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_structure import BUILDING, MODULES, ROOT, imported, name_of

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
NO_LOCK = "__import__('contextlib').nullcontext()"
SPARED = ("annotation", "returns", "exc")  # types are not run, and messages are checked by eye
QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of libraries that are loaded already
TESTS = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pages" not in path.parent.name)


@dataclass(frozen=True)
class Mutation:
    """One change of a file: its bytes from `start` to `end` become `new`."""

    line: int
    start: int
    end: int
    old: str
    new: str


def mutations(source: str) -> Iterator[Mutation]:
    """All changes of a file."""
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for part in _executed(ast.parse(source)):
        for node, new in _variants(part):
            start = lines[node.lineno - 1] + node.col_offset
            end = lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            yield Mutation(node.lineno, start, end, source.encode()[start:end].decode(), new)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            is_log = isinstance(child, ast.Expr) and ast.unparse(child).startswith("logger.")
            if isinstance(child, ast.AST) and name not in SPARED and not is_log:
                yield child
                yield from () if isinstance(child, ast.JoinedStr) else _executed(child)


def _variants(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """What is replaced at a node, and by which source."""
    changed = copy.deepcopy(node)
    match changed:
        case ast.Compare(ops=[op, *_]):
            changed.ops[0] = SWAPS[type(op)]()  # type: ignore[call-overload]
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPS:
            changed.op = SWAPS[type(op)]()  # type: ignore[assignment]
        case ast.UnaryOp(op=ast.Not()):
            changed = changed.operand
        case ast.Constant(value=bool(value)):
            changed.value = not value
        case ast.Constant(value=int(value) | float(value)):
            changed.value = value + 1
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            changed.func = ast.Name(NAMES[name])
        case ast.Return(value=ast.expr()) if ast.unparse(changed) != "return None":
            changed.value = ast.Constant(None)
        case ast.Raise() | ast.Expr(value=ast.Call()):
            changed = ast.Pass()
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if isinstance(
            test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr
        ):
            yield test, f"(not ({ast.unparse(test)}))"
            return
        case ast.withitem(context_expr=ast.Name() | ast.Attribute() as lock, optional_vars=None):
            yield lock, NO_LOCK
            return
        case _:
            return
    assert isinstance(node, ast.expr | ast.stmt)
    yield node, f"({ast.unparse(changed)})" if isinstance(changed, ast.expr) else ast.unparse(changed)


def tests_of(path: Path) -> list[Path]:
    """The tests below the pages that import a file; where there is none, those of its users."""
    users = {file: {f"{name}." for name in imported(file)} for file in (*TESTS, *MODULES, *BUILDING)}
    names, known = {name_of(path)}, {path}
    while names:
        found = {file for file, used in users.items() if any(u.startswith(f"{name}.") for u in used for name in names)}
        if tests := sorted(found & set(TESTS)):
            return tests
        names = {name_of(file) for file in found - known}
        known |= found
    return []


def copied(folder: Path) -> None:
    """The working tree as it is, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def load_libraries(paths: list[Path]) -> None:
    """Everything from elsewhere that these files import, so that no run has to."""
    for name in {name for path in paths for name in imported(path)}:
        module, _, attribute = name.rpartition(".")
        if name.split(".")[0] not in ("omnilmm", "tests", "built_in", "chat", "web_demo", "web_demo_streamlit"):
            with contextlib.suppress(Exception):
                getattr(importlib.import_module(module or name), attribute, None)


def run(folder: Path, arguments: list[str], limit_s: float) -> int | None:
    """Pytest's exit code in the copy, or None if it took too long."""
    child = os.fork()
    if not child:
        try:
            os.setsid()
            os.chdir(folder)
            with open("mutants.log", "wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            sys.path[:] = [str(folder), *(entry for entry in sys.path if Path(entry).resolve() != ROOT)]
            for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
                del sys.modules[name]
            os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *QUIET, *arguments]))
        except BaseException:
            traceback.print_exc()
        finally:
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


def survivors(folder: Path, path: Path, tests: list[str]) -> Iterator[Mutation]:
    """The changes of a file with which its tests are still green.

    Raises:
        SystemExit: They are not green without any.
    """
    target = folder / path.relative_to(ROOT)
    source = target.read_bytes()
    begin = time.monotonic()
    if run(folder, tests, 3600) != 0:
        raise SystemExit(f"The tests of {path} are not green as it is:\n{(folder / 'mutants.log').read_text()}")
    limit_s = 20 + 3 * (time.monotonic() - begin)
    found = list(mutations(source.decode()))
    for number, mutation in enumerate(found, 1):
        print(f"\r{number} of {len(found)} changes", end=" ", file=sys.stderr, flush=True)
        target.write_bytes(source[: mutation.start] + mutation.new.encode() + source[mutation.end :])
        shutil.rmtree(target.parent / "__pycache__", ignore_errors=True)  # it is told by seconds and size
        if run(folder, tests, limit_s) == 0:
            yield mutation
    target.write_bytes(source)


def changed_files(base: str) -> list[Path]:
    """The files of the program that differ from a commit."""
    names = subprocess.run(["git", "diff", "--name-only", base], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in (*MODULES, *BUILDING) if str(path.relative_to(ROOT)) in names.stdout.splitlines()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Which small faults would no test notice?")
    parser.add_argument("files", nargs="*", type=lambda name: Path(name).resolve(), help="else those of the change")
    parser.add_argument("--base", default="main", help="the commit that a change is told from")
    parser.add_argument("--tests", nargs="+", help="files or node ids; else those that import the file")
    chosen = parser.parse_args()
    files = chosen.files or changed_files(chosen.base)
    below_pages = [path for path in MODULES if "ui" not in path.parts]
    load_libraries([*files, *(test for path in files for test in tests_of(path)), *below_pages])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"  # what stands beside it is nobody's, too
        copied(folder)
        for path in files:
            tests = chosen.tests or [str(test.relative_to(ROOT)) for test in tests_of(path)]
            print(f"{path.relative_to(ROOT)}: {', '.join(tests) or 'no test below the pages imports it'}", flush=True)
            for lost in survivors(folder, path, tests) if tests else ():
                old, new = (" ".join(text.split())[:80] for text in (lost.old, lost.new))
                print(f"\r{path.relative_to(ROOT)}:{lost.line}: {old}  ->  {new}", flush=True)


if __name__ == "__main__":
    main()
