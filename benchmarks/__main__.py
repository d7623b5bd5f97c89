"""Benchmark the built-in model on this machine: `make bench`.

Prints a Markdown table together with the machine and the versions. Every row is the median of several runs in one
process; start-up is measured in separate processes.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 9


def main() -> None:
    """Measure and print."""
    print(f"Command: `python -m benchmarks` · {date.today()} · {machine()}\n")
    print("| what | figure |\n|---|---|")
    for what, figure in [*answering(), *starting()]:
        print(f"| {what} | {figure} |", flush=True)


def machine() -> str:
    """Describe the machine: processor, cores, memory and versions."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "gradio"))
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB · Python {platform.python_version()}, {versions}"


def answering() -> list[tuple[str, str]]:
    """Measure a question about a sample picture on the built-in model."""
    began = time.perf_counter()
    from omnilmm.conversation import Conversation
    from omnilmm.engine.events import Finished
    from omnilmm.engine.loading import load_engine
    from omnilmm.images.pixels import open_picture

    engine = load_engine(feature_cache_mib=0)  # no cache, so every run encodes the picture
    load_s = time.perf_counter() - began
    picture = open_picture(ROOT / "assets" / "samples" / "picture.png")
    conversation = Conversation().with_message("user", picture, "What is in this picture?")
    finished = []
    for _ in range(RUNS):
        *_, last = engine.stream(conversation)
        assert isinstance(last, Finished)
        finished.append(last)
    first = statistics.median(run.timings.first_token_s for run in finished)
    speed = statistics.median(run.timings.tokens_per_s(run.usage.new_tokens) for run in finished)
    whole = statistics.median(run.timings.total_s for run in finished)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "linux" else 2**30)
    return [
        ("built-in model: import and load", f"{load_s:.1f} s"),
        (f"built-in model: to the first word (median of {RUNS})", f"{first * 1000:.0f} ms"),
        (f"built-in model: tokens per second (median of {RUNS})", f"{speed:.0f}"),
        (f"built-in model: whole description (median of {RUNS})", f"{whole * 1000:.0f} ms"),
        ("built-in model: peak memory of the process", f"{peak:.2f} GiB"),
    ]


def starting() -> list[tuple[str, str]]:
    """Measure the time from `python web_demo.py` to a served page, and that of `import gradio` alone."""
    page, imports = starting_s()
    return [
        ("web_demo.py: start to served page (median of 3)", f"{page:.1f} s"),
        ("`import gradio` alone (median of 3)", f"{imports:.1f} s"),
    ]


def starting_s() -> tuple[float, float]:
    """Return the seconds from `python web_demo.py` to a served page, and those of `import gradio` alone."""
    page = statistics.median(_page_start_s() for _ in range(3))
    return page, statistics.median(_run_s("import gradio") for _ in range(3))


def _run_s(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def _page_start_s() -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "web_demo.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5) as reply:
                    json.load(reply)
                return time.perf_counter() - began
            except OSError:
                if server.poll() is not None or time.perf_counter() - began > 120:
                    raise
                time.sleep(0.05)
    finally:
        server.terminate()
        server.wait()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    main()
