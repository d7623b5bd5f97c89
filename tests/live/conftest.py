from __future__ import annotations

from pathlib import Path

import pytest

from omnilmm.live.recognition import Recogniser, load_recogniser
from tests.live.sounds import grammar


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    path: Path = grammar(tmp_path_factory.mktemp("grammar"))
    loaded = load_recogniser(f"pocketsphinx:{path}")
    assert loaded is not None
    return loaded
