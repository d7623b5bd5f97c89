"""What can be set and chosen on the Streamlit page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
from playwright.sync_api import expect

from omnilmm.catalog import cards, find
from omnilmm.conversation import Conversation
from omnilmm.engine.choosing import Listed
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.options import BeamSearch
from omnilmm.ui.streamlit_page import engines
from omnilmm.ui.texts import ENGLISH
from tests.pages.visitor import SAMPLES
from tests.streamlit_pages.person import Person, Site
from tests.ui.scripted import ScriptedEngine, echo, finished

Visit = Callable[..., Person]

CIRCLE = SAMPLES["circle"]
OTHER = "minicpm-v-2.6"


def test_each_mode_shows_its_own_controls_and_they_reach_the_model(person: Person, scripted: ScriptedEngine) -> None:
    side = person.page.locator("[data-testid=stSidebar]")
    expect(side).to_contain_text(ENGLISH.labels["temperature"])
    expect(side).not_to_contain_text(ENGLISH.labels["beams"])
    side.get_by_text(ENGLISH.modes["beam"], exact=True).click()
    person.until(lambda: ENGLISH.labels["beams"] in side.inner_text())
    expect(side).not_to_contain_text(ENGLISH.labels["temperature"])
    beams = side.get_by_role("slider", name=ENGLISH.labels["beams"])
    beams.press("ArrowRight")
    shown = side.locator("[data-testid=stSlider]").first
    person.until(lambda: str(scripted.card.beam.beams + 1) in shown.inner_text().split())
    person.ask("Hello")
    person.answered()
    options = scripted.asked[-1][1]
    assert isinstance(options, BeamSearch) and options.beams == scripted.card.beam.beams + 1
    side.get_by_role("button", name=ENGLISH.reset).click()
    person.until(lambda: str(scripted.card.beam.beams) in shown.inner_text().split())


def test_an_answer_that_was_cut_off_can_be_continued(person: Person, scripted: ScriptedEngine) -> None:
    def cut_off(conversation: Conversation) -> Iterable[Event]:
        yield TextDelta("One, two")
        yield finished("One, two", reason="length")

    scripted.script = cut_off
    person.ask("Count")
    person.answered()
    person.until(lambda: ENGLISH.length_limit in person.note)
    scripted.script = echo
    person.press("go-on")
    assert person.answered(2) == ENGLISH.go_on_question
    expect(person.button("go-on")).to_have_count(0)


@pytest.fixture
def choosing(server: Site) -> Iterator[dict[str, ScriptedEngine]]:
    """Engines of all models that can be chosen; all fit, and none but the built-in one is here."""
    found = {name: ScriptedEngine(card=find(name)) for name in cards()}
    listed = [Listed(card, "bf16", card.name == "built-in") for card in cards().values()]
    engines.serve(found.__getitem__, "built-in", lambda: listed)
    yield found
    engines.serve(lambda _: found["built-in"], "built-in")


def test_another_model_takes_over_and_the_conversation_stays(choosing: dict[str, ScriptedEngine], visit: Visit) -> None:
    person = visit()
    person.ask("Hello", CIRCLE.picture)
    person.answered()
    person.page.get_by_text(ENGLISH.model, exact=True).first.click()
    person.page.locator("[data-testid=stSelectbox] input").click()
    person.page.get_by_role("option", name=find(OTHER).title, exact=True).click()
    facts = f"{find(OTHER).download_gib:g} GiB to download"
    person.until(lambda: facts in person.page.locator("[data-testid=stSidebar]").inner_text())
    person.press("switch")
    person.until(lambda: find(OTHER).title in person.page.locator(".st-key-header").inner_text())
    expect(person.notice).to_contain_text(ENGLISH.switched.format(model=find(OTHER).title))
    person.ask("And now?")
    person.answered(2)
    asked, _ = choosing[OTHER].asked[-1]
    assert [message.text for message in asked.messages] == ["Hello", "Hello", "And now?"]
    assert len(asked.pictures) == 1


def test_the_best_model_that_fits_is_one_click_away(choosing: dict[str, ScriptedEngine], visit: Visit) -> None:
    best = find("minicpm-v-4.7")
    person = visit()
    person.page.get_by_text(ENGLISH.model, exact=True).first.click()
    label = ENGLISH.best_model.format(model=best.title, size=f"{best.download_gib:g} GiB")
    person.page.get_by_role("button", name=label).click()
    person.until(lambda: best.title in person.page.locator(".st-key-header").inner_text())
