"""The Gradio page as an object: nothing of it is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from omnilmm.engine.provider import ModelProvider
from omnilmm.ui import session
from omnilmm.ui.gradio_page import answers
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.gradio_page.uploads import Uploads
from tests.ui.gradio_page.tab import Tab, answers_with
from tests.ui.scripted import ScriptedEngine, capable


@pytest.fixture(scope="module")
def built() -> Page:
    return Page(ModelProvider.holding(ScriptedEngine(card=capable())))


@pytest.fixture
def page(built: Page, engine: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """With a fresh engine, and everything shown at once."""
    monkeypatch.setattr(session, "REFRESH_S", 0)
    monkeypatch.setattr(answers, "POLL_S", 0.001)
    monkeypatch.setattr(built.context, "uploads", Uploads(tmp_path / "uploads"))
    answers_with(built, engine)
    yield built
    built.context.offer, built.context.max_answers = None, None


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(card=capable())


@pytest.fixture
def tab(page: Page) -> Tab:
    return Tab(page)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (6, 4), "red").save(path)
    return path
