"""A model that is not here yet: on a hub on this machine, under the name of one of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from omnilmm.catalog import BUILT_IN
from omnilmm.engine.fetching import download
from omnilmm.engine.placement import device_memory
from omnilmm.model_lookup import find
from tests.engine.local_hub import LocalHub, serving

NAME = "minicpm-v-2.6"
NOWHERE = "http://127.0.0.1:9"  # where nobody answers
ENOUGH = 64 * 2**30
LOADING: dict[str, Any] = {
    "model": BUILT_IN,
    "device": "cpu",
    "dtype": "auto",
    "revision": None,
    "hub": "huggingface",
    "offline": False,
    "max_memory": None,
    "feature_cache_mib": 64,
    "prefix_cache_mib": 64,
}


@contextmanager
def on_the_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """What is called MiniCPM-V 2.6 there is the built-in model, of the same architecture; there is memory for both."""
    files = {path.name: path.read_bytes() for path in Path(find(BUILT_IN).location).iterdir()}
    monkeypatch.setattr(device_memory, "free_memory", lambda _: ENOUGH)
    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(home))
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(LocalHub(files, source=find(NAME).source)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub
