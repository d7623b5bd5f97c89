"""A real Chromium in front of a real server with the real built-in model, all in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser

from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.ui.gradio_page import answers, past, visitors
from tests.browser import Profiles
from tests.pages.proxy import proxied
from tests.pages.visitor import Pace, Site, Visitor, serve
from tests.waiting import HOLD_S


@pytest.fixture(scope="session")
def engine() -> LocalEngine:
    return load_engine()


@pytest.fixture(scope="module")
def site(engine: LocalEngine) -> Iterator[Site]:
    with serve(engine) as site:
        yield site


@pytest.fixture(scope="module")
def profiles() -> Iterator[Profiles]:
    profiles = Profiles()
    yield profiles
    profiles.close()


@pytest.fixture
def visit(browser: Browser, site: Site, profiles: Profiles) -> Iterator[Callable[..., Visitor]]:
    """Opens the page, each time as a new person; nobody's page asks another host or breaks a script."""
    visitors: list[Visitor] = []
    with ExitStack() as contexts:

        def open_page(address: str = site.address, login: tuple[str, str] | None = None, **looks: Any) -> Visitor:
            looks = {"viewport": {"width": 1280, "height": 800}, **looks}
            context = contexts.enter_context(profiles.lend(browser, address, **looks))
            visitors.append(Visitor.arrives(context, address, login))
            return visitors[-1]

        yield open_page
    assert [request.url for visitor in visitors for request in visitor.foreign] == []
    assert [error for visitor in visitors for error in visitor.broken] == []


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    return visit()


@pytest.fixture
def pace(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pace]:
    """The model waits before every token until the test allows it."""
    pace = Pace(engine)
    for page in (answers, past, visitors):  # which wait for an answer that was stopped as long as the test holds it
        monkeypatch.setattr(page, "FINALIZE_S", HOLD_S)
    monkeypatch.setattr(engine, "stream", pace.stream)
    hook = engine.model.llm.register_forward_pre_hook(pace.before)
    yield pace
    pace.allow()
    hook.remove()


@pytest.fixture
def proxy() -> Iterator[Callable[[str, str], str]]:
    """Serves a site under a path of another address, as a proxy in front of it does."""
    with ExitStack() as running:
        yield lambda address, path: running.enter_context(proxied(address, path))
