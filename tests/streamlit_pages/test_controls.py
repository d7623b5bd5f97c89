"""What can be set and chosen on the Streamlit page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.conversation import Conversation
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.options import BeamSearch
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.spaces.fallback import provide
from omnilmm.errors import HardwareError
from omnilmm.hardware import possible_dtypes
from omnilmm.model_lookup import find
from omnilmm.ui.offer import Offer
from omnilmm.ui.photos import offer_label
from omnilmm.ui.streamlit_page import server_state
from omnilmm.ui.texts import ENGLISH
from tests.engine.gate import Gate, provider_of
from tests.engine.remote_model import LOADING, NOWHERE, on_the_hub
from tests.images.real_photo import PHOTO
from tests.pages.visitor import SAMPLES
from tests.streamlit_pages.person import Person, Site
from tests.ui.scripted import Held, ScriptedEngine, capable, echo, finished, slices_as_asked
from tests.waiting import HOLD_S, PATIENCE_S

Visit = Callable[..., Person]

CIRCLE = SAMPLES["circle"]
OTHER = "minicpm-v-2.6"
TRIES = 6  # of choosing from a list
BEST = find("minicpm-v-4.5")  # what is offered where all fit


def test_settings_reach_the_model_and_reset_gives_back_what_its_makers_chose(server: Site, visit: Visit) -> None:
    scripted = ScriptedEngine(card=capable(max_slices=9, finer_detail=True))
    scripted.picture_slices = slices_as_asked
    server.use(scripted)
    person = visit()
    system = person.page.get_by_role("textbox", name=ENGLISH.system_prompt)
    system.fill("Answer like a sailor.")
    system.press("Tab")
    side = person.page.locator("[data-testid=stSidebar]")
    expect(side).to_contain_text(ENGLISH.labels["temperature"])
    expect(side).not_to_contain_text(ENGLISH.labels["beams"])
    modes = side.get_by_role("radiogroup", name=ENGLISH.decode_type)
    person.until(lambda: modes.evaluate("choices => choices.scrollWidth <= choices.clientWidth"))  # all are in sight
    side.get_by_text(ENGLISH.modes["beam"], exact=True).click()
    expect(side).to_contain_text(ENGLISH.labels["beams"])
    expect(side).not_to_contain_text(ENGLISH.labels["temperature"])
    beams = side.get_by_role("slider", name=ENGLISH.labels["beams"])
    beams.press("ArrowRight")
    shown = side.locator("[data-testid=stSlider]").first
    person.until(lambda: str(scripted.card.beam.beams + 1) in shown.inner_text().split())
    side.get_by_text(ENGLISH.finer_detail, exact=True).click()
    slices = side.get_by_role("slider", name=ENGLISH.labels["max_slices"])
    slices.press("ArrowRight")
    expect(slices).to_have_value("10")
    person.attach(CIRCLE.picture)
    person.button("pending-seen-0").click()
    dialog = person.page.get_by_role("dialog")
    expect(dialog).to_contain_text("10 slices of 112×112: 2560 tokens")
    person.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    person.ask("Hello")
    person.answered()
    asked, options = scripted.asked[-1]
    assert isinstance(options, BeamSearch) and options.beams == scripted.card.beam.beams + 1
    assert (options.max_slices, options.finer_detail) == (10, True)
    assert asked.system == "Answer like a sailor."
    side.get_by_role("button", name=ENGLISH.reset).click()
    person.until(lambda: str(scripted.card.beam.beams) in shown.inner_text().split())
    expect(slices).to_have_value("9")
    expect(side.get_by_role("switch", name=ENGLISH.finer_detail)).not_to_be_checked()


def test_an_answer_that_was_cut_off_can_be_continued(person: Person, scripted: ScriptedEngine) -> None:
    def cut_off(conversation: Conversation) -> Iterable[Event]:
        yield TextDelta("One, two")
        yield finished("One, two", reason="length")

    scripted.script = cut_off
    person.ask("Count")
    person.answered()
    person.until(lambda: ENGLISH.length_limit in person.note)
    scripted.script = echo
    person.press("continue-answer")
    assert person.answered(2) == ENGLISH.continue_question
    expect(person.button("continue-answer")).to_have_count(0)


@pytest.fixture
def gates() -> dict[str, Gate]:
    """Of the models that the page can switch between."""

    def gate(name: str) -> Gate:
        engine = ScriptedEngine(card=find(name))
        return Gate(lambda: engine)

    return {name: gate(name) for name in cards()}


@pytest.fixture
def choosing(server: Site, gates: dict[str, Gate]) -> Iterator[dict[str, Gate]]:
    """The page on the built-in model, where all fit and none but that one is here."""
    listed = [ListedModel(card, "int8", card.name == BUILT_IN, 12.0) for card in cards().values()]
    provider = provider_of(gates, BUILT_IN)
    provider.wait()
    server_state.serve(provider, Offer(lambda _: listed, lambda: ["fp32", "int8"]))
    yield gates
    server_state.serve(ModelProvider.holding(gates[BUILT_IN].make()))


def select(person: Person, label: str, option: str) -> None:
    box = person.page.locator("[data-testid=stSelectbox]", has_text=label)
    wanted = person.page.get_by_role("option", name=option, exact=True)
    for _ in range(TRIES):  # what is drawn anew at that moment closes the list
        box.locator("input").click()
        with suppress(PlaywrightTimeoutError):
            wanted.click(timeout=PATIENCE_S * 1000 / TRIES)
            break
        person.page.keyboard.press("Escape")
    expect(box.locator("input")).to_have_value(option)


def choose(person: Person, name: str) -> None:
    """Choose another model."""
    person.open_panel(ENGLISH.model)
    select(person, ENGLISH.model, find(name).title)
    person.press("switch")


def says(person: Person, text: str) -> None:
    """Wait until something is said above the conversation."""
    person.until(lambda: text in person.header)


def test_a_change_of_models_is_reported_to_everybody_and_takes_nothing_from_anybody(
    choosing: dict[str, Gate], visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chooses and closes the page half-way; another one asks all the time."""
    gate, model = choosing[OTHER], find(OTHER).title
    gate.open.clear()
    gate.loads.clear()
    monkeypatch.setattr("omnilmm.engine.provider.FINISH_S", HOLD_S)  # an answer goes on as long as the test holds it
    one, other = visit(), visit()
    other.ask("Hello", CIRCLE.picture)
    other.answered()
    choose(one, OTHER)
    downloading = f"{model} is being downloaded, 3.0 of 12.0 GiB (25%). Built-in model answers meanwhile."
    for person in (one, other):
        says(person, downloading)
        says(person, "Built-in model on cpu")
    one.page.close()
    other.open_panel(ENGLISH.model)
    expect(other.button("switch")).to_be_disabled()  # one change at a time
    answer = Held("Still", " there?")
    choosing[BUILT_IN].make().script = answer  # type: ignore[attr-defined]
    other.ask("Still there?")
    other.until(lambda: other.answer == "Still")
    gate.open.set()
    says(other, f"{model} takes over as soon as the running answers have ended")
    answer.goes_on.set()
    assert other.answered(2) == "Still there?"
    says(other, f"{model} is being loaded")
    other.ask("And now?")
    other.until(lambda: other.note.startswith("loading the model …"))
    other.until(lambda: bool(other.header) and "Now " not in other.header)
    gate.loads.set()
    expect(other.page.get_by_test_id("stToast")).to_contain_text(f"Now {model} answers")  # it goes after a while
    assert other.answered(3) == "And now?"
    says(other, ENGLISH.changes["done"].format(model=model))
    expect(
        other.page.get_by_role("textbox", name=ENGLISH.system_prompt)
    ).to_be_visible()  # what this model has in addition
    asked, _ = gate.make().asked[-1]  # type: ignore[attr-defined]
    assert [message.text for message in asked.messages][::2] == ["Hello", "Still there?", "And now?"]
    assert len(asked.pictures) == 1
    assert gate.wishes[0][0].fits == "int8"


def test_a_change_that_fails_or_is_cancelled_leaves_everything_as_it_was(
    choosing: dict[str, Gate], visit: Visit
) -> None:
    gate, model = choosing[OTHER], find(OTHER).title
    gate.refusal = HardwareError("16.0 GiB are needed, 8.0 GiB are free.")
    person = visit()
    choose(person, OTHER)
    failed = f"{model} could not be used: 16.0 GiB are needed, 8.0 GiB are free. Built-in model keeps answering."
    says(person, failed)
    gate.refusal, gate.breaks = None, [HardwareError("The device caught fire.")]
    choose(person, OTHER)
    restored = f"{model} could not be loaded: The device caught fire. Built-in model was loaded again and answers."
    says(person, restored)
    gate.open.clear()
    choose(person, OTHER)
    person.press("cancel-change")
    says(person, f"The change to {model} was cancelled.")
    expect(person.button("cancel-change")).to_have_count(0)
    person.ask("Hello")
    assert person.answered() == "Hello"
    assert choosing[BUILT_IN].loaded == 2 and gate.loaded == 1


def test_a_first_model_that_cannot_be_loaded_leaves_a_page_with_others_to_choose(
    server: Site, visit: Visit, gates: dict[str, Gate]
) -> None:
    gates[BUILT_IN].refusal = HardwareError("needs 17.1 GiB, 8.0 GiB are free.")
    listed = [ListedModel(card, "bf16", True) for card in cards().values()]
    server_state.serve(provider_of(gates, BUILT_IN), Offer(lambda _: listed))
    person = visit()
    says(person, "could not be loaded: needs 17.1 GiB")
    person.ask("Hello", CIRCLE.picture)
    expect(person.notice).to_contain_text("needs 17.1 GiB")
    expect(person.box).to_have_value("Hello")
    expect(person.attached).to_have_count(1)
    person.until(lambda: person.questions() == [])
    choose(person, OTHER)
    says(person, f"{find(OTHER).title} on cpu")
    person.box.press("Enter")
    assert person.answered() == "Hello"


def test_a_model_of_the_hub_takes_over(
    server: Site, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For real: network off, then on, then an answer."""
    listed = [ListedModel(card, "bf16", False) for card in cards().values()]
    with on_the_hub(tmp_path, monkeypatch) as hub:
        server_state.serve(provide(LOADING, lambda done, total: None), Offer(lambda _: listed, possible_dtypes))
        person = visit()
        says(person, "Built-in model on cpu")
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        choose(person, OTHER)
        says(person, "cannot be fetched from the mirror")
        says(person, "Built-in model keeps answering.")
        person.sample("circle")
        assert person.answered() == CIRCLE.answer
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        choose(person, OTHER)
        says(person, f"Now {find(OTHER).title} answers.")
        person.press("clear")
        person.until(lambda: person.questions() == [])
        person.sample("circle")
        assert person.answered() == CIRCLE.answer


def test_a_photo_is_said_to_be_beyond_the_model_and_one_click_chooses_another(
    choosing: dict[str, Gate], visit: Visit
) -> None:
    person = visit()
    expect(person.page.get_by_text(ENGLISH.drawings_only)).to_be_visible()
    lines = person.page.locator("[class*=st-key-photo-line-]")
    person.ask("What is it?", PHOTO)
    person.answered()
    person.ask("And now?")
    person.answered(2)
    person.ask("And this?", CIRCLE.picture)
    person.answered(3)
    person.reload()
    person.until(lambda: len(person.notes()) == 3)
    person.wait_until_stable()  # what moves is there twice until all is drawn
    expect(lines).to_have_count(2)  # none for the drawing
    expect(lines.first).to_contain_text(ENGLISH.looks_like_photo)
    button = lines.first.get_by_role("button", name=offer_label(BEST, ENGLISH), exact=True)
    expect(button).to_be_visible()
    button.click()
    says(person, ENGLISH.changes["done"].format(model=BEST.title))
    expect(button).to_have_count(0)
    expect(lines).to_have_count(2)  # what the other model said stays as doubtful


def test_the_best_model_that_fits_is_one_click_away(choosing: dict[str, Gate], visit: Visit) -> None:
    best = BEST
    person = visit()
    person.open_panel(ENGLISH.model)
    expect(person.page.get_by_text("8.7 B, 16.2 GiB to download, about 9 words a second here")).to_be_visible()
    expect(person.page.get_by_text("6.2 M · fits in int8 · ~9 words/s · on disk")).to_be_visible()
    label = ENGLISH.best_model.format(model=best.title)
    person.page.get_by_role("button", name=label).click()
    person.until(lambda: bool(choosing[best.name].wishes))
    says(person, best.title)
    assert choosing[best.name].wishes[0][0].fits == "int8", "it is loaded as it was offered"
