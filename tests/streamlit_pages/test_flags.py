"""The flags of web_demo_streamlit.py, what it says when it cannot start, and that it listens to nobody else."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import web_demo_streamlit
from omnilmm.catalog import BUILT_IN
from omnilmm.model_lookup import find
from tests.pages.test_flags import HEAVY, assert_one_line

ROOT = Path(__file__).parents[2]
PROGRAM = "web_demo_streamlit.py"
REPORT = f"""
import runpy, sys
sys.argv = ["{PROGRAM}", *sys.argv[1:]]
try:
    runpy.run_path("{PROGRAM}", run_name="__main__")
finally:
    print("heavy:", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


@contextmanager
def served(*command: str) -> Iterator[str]:
    """The address of the page that a command serves."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r"https?://[^ ]+:\d+", line):
                    yield found.group()
                    break
            else:
                raise AssertionError(f"it ended: {''.join(lines)}")
        finally:
            process.terminate()


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-c", REPORT, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "heavy:"
    for flag in ("--model", "--device", "--host", "--port", "--auth", "--root-path", "--max-file-size", "--open"):
        assert flag in done.stdout


def test_an_unknown_model_is_one_line_with_suggestions() -> None:
    assert_one_line(run("--model", "bilt-in"), "bilt-in", "Did you mean", BUILT_IN)


def test_a_login_that_is_none_is_one_line() -> None:
    assert_one_line(run("--auth", "half:"), "--auth", "user:password")


def test_a_live_view_is_one_line_with_the_way_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert web_demo_streamlit.main(["--live"]) == 2
    assert "web_demo.py --live" in (told := capsys.readouterr().err) and told.count("\n") == 1


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_line(run("--port", port), port, "--port")


def test_a_damaged_model_ends_the_program_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(find(BUILT_IN).location, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    done = run("--model", str(folder), "--port", "0")
    assert done.returncode == 2
    assert "damaged or cut off" in done.stderr.splitlines()[-1]


def test_it_listens_on_this_machine_alone_unless_told() -> None:
    flags = web_demo_streamlit.parser().parse_args([])
    assert (flags.host, flags.port, flags.open, flags.auth) == ("127.0.0.1", None, False, [])


@pytest.mark.parametrize(
    "command",
    [(PROGRAM, "--port", "0"), ("-m", "streamlit", "run", PROGRAM, "--server.port", "0", "--server.headless", "true")],
    ids=["python", "streamlit run"],
)
def test_it_is_served_here_alone_and_asks_for_the_login(command: tuple[str, ...]) -> None:
    flags = ("--", "--auth", "anna:secret") if "streamlit" in command else ("--auth", "anna:secret")
    with served(*command, *flags) as address:
        assert address.startswith("http://127.0.0.1:")
        for path in ("/", "/_stcore/health", "/_stcore/upload_file/a/b", "/media/x.png"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(address + path)  # noqa: S310
        opener = urllib.request.build_opener()
        opener.addheaders = [("Authorization", "Basic YW5uYTpzZWNyZXQ=")]
        with opener.open(address + "/_stcore/health") as answer:
            assert answer.status == 200
            assert "img-src 'self'" in answer.headers["content-security-policy"]
