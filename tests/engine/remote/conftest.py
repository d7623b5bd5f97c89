"""Real servers with a tiny model made here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.remote.llama_server import LlamaServer
from tests.engine.remote.tiny_gguf import write_tiny
from tests.pages.conftest import engine, pace  # the built-in model, and how it waits for the test

__all__ = ["engine", "pace"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def llama(tiny_model: Path) -> Iterator[LlamaServer]:
    server = LlamaServer(tiny_model)
    yield server
    server.kill()
