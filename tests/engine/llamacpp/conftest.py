"""The built-in model as GGUF, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnilmm.catalog import BUILT_IN
from omnilmm.export.to_gguf import Exported, export_gguf
from omnilmm.model_lookup import find


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_gguf(Path(find(BUILT_IN).location), tmp_path_factory.mktemp("gguf"), "built-in", "f16")
