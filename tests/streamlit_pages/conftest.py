"""A real Chromium in front of the Streamlit page with the real built-in model, all in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from omnilmm.engine.local import LocalEngine
from tests.pages.conftest import engine, pace
from tests.streamlit_pages.person import Person, Site, serve
from tests.ui.scripted import ScriptedEngine

__all__ = ["engine", "pace"]


@pytest.fixture(scope="module")
def server(engine: LocalEngine) -> Iterator[Site]:
    with serve(engine) as site:
        yield site


@pytest.fixture
def site(server: Site, engine: LocalEngine) -> Site:
    """The page with the built-in model, whatever the test before had there."""
    server.use(engine)
    return server


@pytest.fixture
def scripted(server: Site) -> ScriptedEngine:
    """The page with an engine that says what the test wants."""
    scripted = ScriptedEngine()
    server.use(scripted)
    return scripted


@pytest.fixture
def visit(browser: Browser, server: Site) -> Iterator[Callable[..., Person]]:
    """Opens the page, each time as a new person; nobody's page asks another host or breaks a script."""
    contexts: list[BrowserContext] = []
    people: list[Person] = []

    def open_page(**looks: Any) -> Person:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en", **looks}))
        people.append(Person.arrives(contexts[-1], server.address))
        return people[-1]

    yield open_page
    for context in contexts:
        context.close()
    assert [request.url for person in people for request in person.foreign] == []
    assert [error for person in people for error in person.broken] == []


@pytest.fixture
def person(visit: Callable[..., Person]) -> Person:
    return visit()
