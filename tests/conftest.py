"""What every test shares: the options, one thread, and how Hypothesis looks for counter-examples."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.browser import SLOW

# Before torch is imported, and for the programs that tests start: threads of a tiny model only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run and on every machine; slow machines are no reason to fail.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", help="check the goldens in this folder instead of the repository's own")
    parser.addoption("--slow", action="store_true", help="browsers at a quarter of their speed, every core kept busy")


@pytest.fixture(scope="session", autouse=True)
def slow_machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--slow`, a race that a quick machine always wins is lost now and then."""
    if not request.config.getoption("--slow"):
        yield
        return
    os.environ[SLOW] = "1"
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for process in others:
        process.kill()
        process.wait()
