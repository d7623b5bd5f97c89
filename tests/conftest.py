"""What every test shares: the options, one thread, and how Hypothesis looks for counter-examples."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.browser import OneBrowser
from tests.waiting import SLOW

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before torch is imported, and for the programs that tests start: threads of a tiny model only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before the library of the hub is imported, and for the programs: a server in this process may be kept waiting as well.
os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "60")
os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "60")

# The same examples in every run and on every machine; slow machines are no reason to fail.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", help="check the goldens in this folder instead of the repository's own")


@pytest.fixture(scope="session", autouse=True)
def slow_machine() -> Iterator[None]:
    """With `SLOW` every core is kept busy: a race that a quick machine always wins is lost now and then."""
    if SLOW not in os.environ:
        yield
        return
    here = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(here)]
    yield
    for process in others:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """A test draws the same seeds whichever tests ran before it: an answer of random weights may end at any word."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


# Files of few tests that take long. They begin first, with `--no-loadscope-reorder`: one of them alone at the end would
# leave the other cores idle.
LONG = {
    "test_readme.py",
    "test_running.py",
    "test_built_in.py",
    "test_learning.py",
    "test_install.py",
    "test_serving.py",
    "test_access.py",
    "test_space.py",
    "test_gguf.py",
    "test_live.py",
    "test_stress.py",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `SLOW`, what has no browser cannot race with one, and a journey in other colours or words is the same.

    Spread over processes, the longest files begin first.
    """
    if SLOW in os.environ:
        journeys = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
        once = {item.nodeid.partition("[")[0]: item for item in reversed(journeys)}
        config.hook.pytest_deselected(items=[item for item in items if item not in once.values()])
        items[:] = reversed(once.values())
    if "PYTEST_XDIST_WORKER" in os.environ:
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path.name not in LONG, -tests[item.path], item.path))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: each search for garbage would look at a million objects again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


BROWSER = OneBrowser()
JOURNEYS = ("pages", "streamlit_pages")  # folders in which nobody minds it


@pytest.fixture
def browser() -> Browser:
    """A real Chromium, which goes on to the next journey."""
    return BROWSER.get()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.parent.name not in JOURNEYS and "browser" not in getattr(item, "fixturenames", ()):
        BROWSER.close()


def pytest_sessionfinish() -> None:
    BROWSER.close()
