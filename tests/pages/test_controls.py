"""What can be set and chosen on the Gradio page: prompts, settings, models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from omnilmm.catalog import cards, find
from omnilmm.conversation import Conversation
from omnilmm.engine.choosing import Listed
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.options import Sampling
from omnilmm.engine.starting import StartingEngine
from omnilmm.errors import HardwareError
from omnilmm.ui import texts
from omnilmm.ui.gradio_page.shared import Models
from omnilmm.ui.texts import ENGLISH
from tests.engine.gate import Gate
from tests.pages.visitor import SAMPLES, Site, Visitor, serve
from tests.ui.scripted import ScriptedEngine, capable, echo, finished

Visit = Callable[..., Visitor]

CIRCLE = SAMPLES["circle"]
OTHER = "minicpm-v-2.6"


@pytest.fixture(scope="module")
def able() -> Iterator[Site]:
    """The page with a model that can do everything."""
    with serve(ScriptedEngine(card=capable())) as site:
        yield site


def test_the_system_prompt_reaches_the_model_and_goes_with_a_new_chat(visit: Visit, able: Site) -> None:
    visitor = visit(able.address)
    system = visitor.page.locator("#system textarea")
    system.fill("Answer like a sailor.")
    visitor.ask("Hello")
    visitor.answered()
    assert able.engine.asked[-1][0].system == "Answer like a sailor."
    system.fill("")
    visitor.ask("Hello again")
    visitor.answered(2)
    assert not able.engine.asked[-1][0].system


def test_a_model_without_a_system_prompt_has_no_field_for_it(visitor: Visitor) -> None:
    assert not visitor.page.locator("#system").is_visible()


def test_reset_gives_back_what_the_makers_chose(visit: Visit, able: Site) -> None:
    visitor = visit(able.address)
    visitor.page.locator("#top_k input[type=number]").fill("12")
    visitor.page.locator("#seed input, #seed textarea").fill("7")
    visitor.page.locator("#seed input, #seed textarea").press("Tab")
    visitor.page.locator("#reset").click()
    card = able.engine.card
    visitor.until(lambda: visitor.page.locator("#top_k input[type=number]").input_value() == str(card.sampling.top_k))
    visitor.ask("Hello")
    visitor.answered()
    expected = Sampling(**card.sampling.model_dump(), seed=None, max_new_tokens=card.max_new_tokens)
    assert able.engine.asked[-1][1] == expected


def test_values_that_cannot_work_are_not_taken(visit: Visit, able: Site) -> None:
    """0 beams, penalty 0, top-k 0: peers offer them, and they can only fail. Temperature 0 is greedy."""
    visitor = visit(able.address)
    visitor.page.locator("#temperature input[type=number]").fill("0")
    visitor.page.locator("#temperature input[type=number]").press("Tab")
    visitor.ask("Hello")
    visitor.answered()
    greedy = able.engine.asked[-1][1]
    assert isinstance(greedy, Sampling) and greedy.is_greedy
    for name in ("top_k", "top_p", "repetition_penalty"):
        slider = visitor.page.locator(f"#{name} input[type=range]")
        assert float(slider.get_attribute("min") or 0) > 0
        number = visitor.page.locator(f"#{name} input[type=number]")
        number.fill("0")
        number.press("Tab")
    visitor.ask("Hello")
    visitor.until(lambda: len(visitor.notes()) > 1 or bool(visitor.notice.count()))
    if len(visitor.notes()) > 1:  # put right by the page
        options = able.engine.asked[-1][1]
        assert isinstance(options, Sampling) and options.top_p > 0 and options.top_k > 0
    else:  # or said, with the question back in the box
        assert "0" in visitor.notice.inner_text() and visitor.box.input_value() == "Hello"


def test_an_answer_that_was_cut_off_can_be_continued(visit: Visit, able: Site) -> None:
    def cut_off(conversation: Conversation) -> Iterable[Event]:
        yield TextDelta("One, two")
        yield finished("One, two", reason="length")

    able.engine.script = cut_off
    visitor = visit(able.address)
    visitor.ask("Count")
    visitor.answered()
    visitor.until(lambda: ENGLISH.length_limit in visitor.note)
    able.engine.script = echo
    visitor.page.locator("#go-on").click()
    assert visitor.answered(2) == ENGLISH.go_on_question
    expect(visitor.page.locator("#go-on")).to_be_hidden()


def test_the_conversation_for_reading(visitor: Visitor, tmp_path: Path) -> None:
    visitor.ask(CIRCLE.question, CIRCLE.picture)
    visitor.answered()
    visitor.page.get_by_text(texts.EXPORT, exact=True).click()
    with visitor.page.expect_download() as download:
        visitor.page.locator("#export-markdown").click()
    path = tmp_path / "conversation.md"
    download.value.save_as(path)
    written = path.read_text(encoding="utf-8")
    assert CIRCLE.question in written and CIRCLE.answer in written and "data:image/" in written


@pytest.fixture
def engines() -> dict[str, ScriptedEngine]:
    """Of the models that the page can switch between."""
    return {name: ScriptedEngine(card=find(name)) for name in cards()}


@pytest.fixture
def choosing(engines: dict[str, ScriptedEngine]) -> Iterator[Site]:
    """The page on the built-in model, where all fit and none but that one is here."""
    listed = [Listed(card, "bf16", card.name == "built-in") for card in cards().values()]
    with serve(engines["built-in"], Models(engines.__getitem__, lambda: listed)) as site:
        yield site


def test_the_picker_tells_what_each_model_takes(visit: Visit, choosing: Site) -> None:
    visitor = visit(choosing.address)
    visitor.page.locator("#models").get_by_role("button", name=ENGLISH.model).first.click()
    visitor.page.locator("#picker input").click()
    lines = visitor.page.get_by_role("option").all_inner_texts()
    assert len(lines) == len(cards())
    line = next(line for line in lines if find(OTHER).title in line)
    for part in ("GiB", "fits in bf16", f"{find(OTHER).download_gib:g} GiB to download", find(OTHER).licence):
        assert part in line


def test_another_model_takes_over_and_the_conversation_stays(
    visit: Visit, choosing: Site, engines: dict[str, ScriptedEngine]
) -> None:
    visitor = visit(choosing.address)
    visitor.ask("Hello", CIRCLE.picture)
    visitor.answered()
    visitor.page.locator("#models").get_by_role("button", name=ENGLISH.model).first.click()
    visitor.page.locator("#picker input").click()
    visitor.page.get_by_role("option", name=find(OTHER).title).first.click()
    visitor.page.locator("#switch").click()
    visitor.until(lambda: find(OTHER).title in visitor.page.locator("#header").inner_text())
    expect(visitor.notice).to_contain_text(ENGLISH.switched.format(model=find(OTHER).title))
    expect(visitor.page.locator("#system")).to_be_visible()  # what this model has in addition
    visitor.ask("And now?")
    visitor.answered(2)
    asked, _ = engines[OTHER].asked[-1]
    assert [message.text for message in asked.messages] == ["Hello", "Hello", "And now?"]
    assert len(asked.pictures) == 1


def test_the_best_model_that_fits_is_one_click_away(
    visit: Visit, choosing: Site, engines: dict[str, ScriptedEngine]
) -> None:
    best = find("minicpm-v-4.7")
    visitor = visit(choosing.address)
    visitor.page.locator("#models").get_by_role("button", name=ENGLISH.model).first.click()
    offer = visitor.page.locator("#best-model")
    expect(offer).to_have_text(ENGLISH.best_model.format(model=best.title, size=f"{best.download_gib:g} GiB"))
    offer.click()
    visitor.until(lambda: best.title in visitor.page.locator("#header").inner_text())
    expect(offer).to_be_hidden()


def test_where_the_model_is_fixed_nobody_chooses(visitor: Visitor) -> None:
    assert not visitor.page.locator("#models").is_visible()


def test_a_model_that_cannot_be_loaded_leaves_the_conversation(
    visit: Visit, engines: dict[str, ScriptedEngine]
) -> None:
    gate = Gate(error=HardwareError("the download broke off: 3 of 16 GiB are here; start it again to go on"))

    def make(name: str) -> object:
        return StartingEngine(find(name), gate.load) if name == OTHER else engines[name]

    listed = [Listed(card, "bf16", True) for card in cards().values()]
    with serve(engines["built-in"], Models(make, lambda: listed)) as site:  # type: ignore[arg-type]
        visitor = visit(site.address)
        visitor.ask("Hello")
        visitor.answered()
        visitor.page.locator("#models").get_by_role("button", name=ENGLISH.model).first.click()
        visitor.page.locator("#picker input").click()
        visitor.page.get_by_role("option", name=find(OTHER).title).first.click()
        visitor.page.locator("#switch").click()
        gate.open.set()
        visitor.until(lambda: "the download broke off" in visitor.page.locator("#header").inner_text())
        visitor.ask("And now?")
        visitor.until(lambda: bool(visitor.notice.count()) and "the download broke off" in visitor.notice.inner_text())
        visitor.until(lambda: visitor.questions() == ["Hello"] and visitor.answers() == ["Hello"])
        expect(visitor.box).to_have_value("And now?")
