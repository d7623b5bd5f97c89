"""What every test shares: the `--golden` option, one thread, and how Hypothesis looks for counter-examples."""

import os

import pytest
from hypothesis import settings

# Before torch is imported, and for the programs that tests start: threads of a tiny model only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run and on every machine; slow machines are no reason to fail.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", help="check the goldens in this folder instead of the repository's own")
