"""A real Chromium in front of the Streamlit page with the real built-in model, all in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser

from omnilmm.engine.local import LocalEngine
from tests.browser import Profiles
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


@pytest.fixture(scope="module")
def profiles() -> Iterator[Profiles]:
    profiles = Profiles()
    yield profiles
    profiles.close()


@pytest.fixture
def visit(browser: Browser, server: Site, profiles: Profiles) -> Iterator[Callable[..., Person]]:
    """Opens the page, each time as a new person; nobody's page asks another host or breaks a script."""
    people: list[Person] = []
    with ExitStack() as contexts:

        def open_page(**looks: Any) -> Person:
            looks = {"viewport": {"width": 1280, "height": 800}, "locale": "en", **looks}
            context = contexts.enter_context(profiles.lend(browser, server.address, **looks))
            people.append(Person.arrives(context, server.address))
            return people[-1]

        yield open_page
    assert [request.url for person in people for request in person.foreign] == []
    assert [error for person in people for error in person.broken] == []


@pytest.fixture
def person(visit: Callable[..., Person]) -> Person:
    return visit()
