"""The flags of web_demo.py, and what it says when it cannot start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

import web_demo
from omnilmm.catalog import BUILT_IN
from omnilmm.model_lookup import find

ROOT = Path(__file__).parents[2]
PAGES = ("web_demo.py", "web_demo_streamlit.py")
HEAVY = ("torch", "transformers", "gradio", "streamlit")
REPORT = """
import runpy, sys
sys.argv = ["web_demo.py", *sys.argv[1:]]
try:
    runpy.run_path("web_demo.py", run_name="__main__")
finally:
    print("heavy:", *(name for name in %r if name in sys.modules), file=sys.stderr)
"""


def run(*flags: str, page: str = "web_demo.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, page, *flags], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORT % (HEAVY,), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "heavy:"
    for flag in ("--model", "--device", "--dtype", "--host", "--port", "--share", "--open"):
        assert flag in done.stdout


def test_the_page_needs_no_tensors() -> None:
    modules = "web_demo, omnilmm.ui.session, omnilmm.ui.markup, omnilmm.ui.network"
    code = f"import sys, {modules}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_model_is_one_line_with_suggestions() -> None:
    assert_one_line(run("--model", "bilt-in"), "bilt-in", "Did you mean", BUILT_IN)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_a_missing_gpu_is_one_line_before_any_address() -> None:
    with ThreadPoolExecutor() as both:  # most of the time goes into importing torch
        runs = both.map(lambda page: run("--device", "cuda", page=page), PAGES)
    for done in runs:
        assert_one_line(done, "'cuda'", "cpu", "--device auto")
        assert done.stdout == ""


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(find(BUILT_IN).location, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    assert_one_line(run("--model", str(folder)), str(folder), "damaged or cut off")


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_line(run("--port", port), port, "--port")


def test_it_listens_on_this_machine_alone_unless_told() -> None:
    flags = web_demo.parser().parse_args([])
    assert (flags.host, flags.port, flags.share, flags.open) == ("127.0.0.1", None, False, False)


def test_ctrl_c_is_an_ordinary_end() -> None:
    """Also where a SOCKS proxy is set that is not there: nothing of a page on this machine goes through it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    environment |= {"ALL_PROXY": "socks://127.0.0.1:1", "all_proxy": "socks5h://127.0.0.1:1"}
    with ExitStack() as running:
        both = [
            running.enter_context(
                subprocess.Popen([sys.executable, page, "--port", "0"], cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]
            )
            for page in PAGES
        ]
        for process in both:
            assert process.stdout and any("MiB of memory" in line for line in process.stdout), "no model was loaded"
            process.send_signal(signal.SIGINT)
        for process in both:
            _, errors = process.communicate(timeout=120)
            assert (process.returncode, errors) == (0, "")
