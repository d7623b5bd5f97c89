"""How the Streamlit page looks and is used without a mouse: an accessibility checker, dark colours, Markdown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest
from playwright.sync_api import expect

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, TextDelta
from omnilmm.ui.streamlit_page import server_state
from omnilmm.ui.texts import ENGLISH
from tests.pages.looks import LOOKS, RICH, serious
from tests.pages.visitor import SAMPLES
from tests.streamlit_pages.person import Person, Site
from tests.ui.scripted import ScriptedEngine, capable, finished, saying
from tests.waiting import HOLD_S

Visit = Callable[..., Person]

STARS = SAMPLES["stars"]


@pytest.fixture
def able(server: Site) -> ScriptedEngine:
    """The page with a model that can do everything."""
    engine = ScriptedEngine(saying(RICH), capable())
    server.use(engine)
    return engine


@pytest.mark.parametrize("look", LOOKS)
def test_an_accessibility_checker_finds_nothing_serious(visit: Visit, able: ScriptedEngine, look: str) -> None:
    person = visit(**LOOKS[look])
    person.wait_until_stable()
    app = person.page.locator("[data-testid=stApp]")

    def brightness() -> float:
        colour = app.evaluate("app => getComputedStyle(app).backgroundColor")
        return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 765

    person.until(lambda: brightness() < 0.3 if "dark" in look else brightness() > 0.8)
    assert serious(person.page) == []
    person.ask("What is it?", STARS.picture)
    person.until(lambda: len(person.notes()) == 1 and person.is_idle)
    person.page.locator("pre .token").first.wait_for()  # code gets its colours a little later than its text
    person.wait_until_stable()
    assert serious(person.page) == []


def test_code_tables_formulas_and_boxes(visit: Visit, able: ScriptedEngine) -> None:
    person = visit()
    person.ask("What is it?", STARS.picture)
    person.answered()
    answer = person.message(1)
    expect(answer.locator("table td")).to_have_text(["star", "2"])
    expect(answer.locator("pre code")).to_contain_text("# counts the stars\ndef count(")
    expect(answer.locator(".katex")).to_have_count(
        2
    )  # each kind is drawn by a script that is fetched when it is needed
    expect(answer.locator(".katex-display")).to_have_count(1)
    expect(answer.locator(".stMarkdownBadge")).to_have_text("star")
    expect(answer).to_contain_text("<form action=/login>")  # told, and no more
    expect(answer.locator(":is(form, [style*=fixed], img[src*=logout], a[href^=data], #password)")).to_have_count(0)
    expect(answer.locator("[data-testid=stImage] img")).to_have_count(1)


def test_beyond_the_queue_people_are_told_and_keep_their_question(
    server: Site, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def held(_: Conversation) -> Iterable[Event]:
        yield TextDelta("Wait")
        gate.wait(HOLD_S)
        yield finished("Wait")

    server.use(ScriptedEngine(held, capable()))
    monkeypatch.setattr(server_state.SERVER, "max_answers", 1)
    first, second = visit(), visit()
    first.ask("Hello")
    first.until(lambda: first.answer == "Wait")
    second.ask("Hello?", STARS.picture)
    second.until(lambda: ENGLISH.many_waiting.format(count=1) in "".join(second.notice.all_inner_texts()))
    expect(second.box).to_have_value("Hello?")
    expect(second.attached).to_have_count(1)
    gate.set()
    first.answered()
    second.box.press("Enter")
    second.answered()
