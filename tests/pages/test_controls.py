"""What can be set and chosen on the Gradio page: prompts, settings, models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.conversation import Conversation
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.options import BeamSearch, Greedy, Sampling
from omnilmm.engine.spaces.fallback import provide
from omnilmm.errors import HardwareError
from omnilmm.hardware import possible_dtypes
from omnilmm.model_lookup import find
from omnilmm.ui.offer import Offer
from omnilmm.ui.photos import offer_label
from omnilmm.ui.texts import ENGLISH
from tests.engine.gate import Gate, provider_of
from tests.engine.remote_model import LOADING, NOWHERE, on_the_hub
from tests.images.real_photo import PHOTO
from tests.pages.visitor import ANSWERED, SAMPLES, Site, Visitor, serve
from tests.ui.scripted import Held, ScriptedEngine, capable, echo, finished
from tests.waiting import HOLD_S

Visit = Callable[..., Visitor]

CIRCLE = SAMPLES["circle"]
OTHER, THIRD = "minicpm-v-2.6", "omnilmm-12b"
BEST = find("minicpm-v-4.5")  # what is offered where all fit


@pytest.fixture(scope="module")
def able() -> Iterator[Site]:
    """The page with a model that can do everything."""
    with serve(ScriptedEngine(card=capable())) as site:
        yield site


def test_the_settings_reach_the_model_and_reset_gives_back_what_its_makers_chose(visit: Visit, able: Site) -> None:
    able.engine.script = echo
    visitor, card = visit(able.address), able.engine.card
    top_k, system = visitor.page.locator("#top_k input[type=number]"), visitor.page.locator("#system textarea")
    length = visitor.page.locator("#max_new_tokens input[type=number]")
    system.fill("Answer like a sailor.")
    visitor.page.locator("#seed input, #seed textarea").fill("7")
    top_k.fill("12")
    length.fill("99")
    length.press("Tab")
    visitor.ask("Hello")
    visitor.answered()
    asked, options = able.engine.asked[-1]
    assert options == Sampling(**{**card.sampling.model_dump(), "top_k": 12}, seed=7, max_new_tokens=99)
    assert asked.system == "Answer like a sailor."
    system.fill("")
    visitor.page.locator("#reset").click()
    expect(top_k).to_have_value(str(card.sampling.top_k))
    visitor.ask("Hello")
    visitor.answered(2)
    asked, options = able.engine.asked[-1]
    assert options == Sampling(**card.sampling.model_dump(), seed=None, max_new_tokens=card.max_new_tokens)
    assert not asked.system
    visitor.page.get_by_text("Beam Search", exact=True).click()
    visitor.page.locator("#beams input[type=number]").fill("5")
    visitor.page.locator("#beams input[type=number]").press("Tab")
    visitor.ask("Hello")
    visitor.answered(3)
    beams = BeamSearch(**{**card.beam.model_dump(), "beams": 5}, max_new_tokens=card.max_new_tokens)
    assert able.engine.asked[-1][1] == beams
    choices = visitor.page.locator("#mode")
    ends = "choices => [...choices.querySelectorAll('label')].map(one => one.getBoundingClientRect().right)"
    right = "choices => choices.getBoundingClientRect().right"
    visitor.until(lambda: max(choices.evaluate(ends)) <= choices.evaluate(right))  # all are in sight
    visitor.page.get_by_text(ENGLISH.modes["greedy"], exact=True).click()
    visitor.ask("Hello")
    visitor.answered(4)
    assert able.engine.asked[-1][1] == Greedy(card.sampling.repetition_penalty, card.max_new_tokens)


def test_values_that_cannot_work_are_not_taken(visit: Visit, able: Site) -> None:
    """0 beams, penalty 0, top-k 0: peers offer them, and they can only fail. Temperature 0 is greedy."""
    able.engine.script = echo
    visitor = visit(able.address)
    visitor.page.locator("#temperature input[type=number]").fill("0")
    visitor.page.locator("#temperature input[type=number]").press("Tab")
    visitor.ask("Hello")
    visitor.answered()
    greedy = able.engine.asked[-1][1]
    assert isinstance(greedy, Greedy)
    visitor.page.locator("#temperature input[type=number]").fill("0.5")
    visitor.page.locator("#temperature input[type=number]").press("Tab")
    for name in ("top_k", "top_p", "repetition_penalty"):
        slider = visitor.page.locator(f"#{name} input[type=range]")
        assert float(slider.get_attribute("min") or 0) > 0
        number = visitor.page.locator(f"#{name} input[type=number]")
        number.fill("0")
        number.press("Tab")
    visitor.ask("Hello")
    visitor.until(lambda: visitor.notice.count() == 1 or (len(visitor.notes()) == 2 and ANSWERED in visitor.note))
    if not visitor.notice.count():  # put right by the page
        options = able.engine.asked[-1][1]
        assert isinstance(options, Sampling) and options.top_p > 0 and options.top_k > 0
    else:  # or said, with the question back in the box
        expect(visitor.notice).to_contain_text("0")
        expect(visitor.box).to_have_value("Hello")


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
    visitor.page.locator("#continue-answer").click()
    assert visitor.answered(2) == ENGLISH.continue_question
    expect(visitor.page.locator("#continue-answer")).to_be_hidden()


@pytest.fixture
def gates() -> dict[str, Gate]:
    """Of the models that the page can switch between."""

    def gate(name: str) -> Gate:
        engine = ScriptedEngine(card=find(name))
        return Gate(lambda: engine)

    return {name: gate(name) for name in cards()}


@pytest.fixture
def choosing(gates: dict[str, Gate]) -> Iterator[Site]:
    """The page on the built-in model, where all fit and none but that one is here."""
    listed = [ListedModel(card, "int8", card.name == BUILT_IN, 12.0) for card in cards().values()]
    provider = provider_of(gates, BUILT_IN)
    provider.wait()
    with serve(provider, Offer(lambda _: listed, lambda: ["fp32", "int8"])) as site:
        yield site


def choose(visitor: Visitor, name: str, dtype: str = "") -> None:
    """Choose another model."""
    visitor.unfold("models")
    visitor.page.locator("#picker input").click()
    visitor.page.get_by_role("option", name=find(name).title).first.click()
    if dtype:
        visitor.page.locator("#dtype input").click()
        visitor.page.get_by_role("option", name=dtype).first.click()
    visitor.page.locator("#switch").click()


def header(visitor: Visitor) -> Locator:
    return visitor.page.locator("#header")


def test_a_change_of_models_is_reported_to_everybody_and_takes_nothing_from_anybody(
    visit: Visit, choosing: Site, gates: dict[str, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chooses and closes the page half-way; another one asks all the time, and wants another model in between."""
    gate, model = gates[OTHER], find(OTHER).title
    gate.open.clear()
    gate.loads.clear()
    monkeypatch.setattr("omnilmm.engine.provider.FINISH_S", HOLD_S)  # an answer goes on as long as the test holds it
    one, other = visit(choosing.address), visit(choosing.address)
    other.ask("Hello", CIRCLE.picture)
    other.answered()
    choose(one, OTHER, "int8")
    downloading = f"{model} is being downloaded, 3.0 of 12.0 GiB (25%). Built-in model answers meanwhile."
    for visitor in (one, other):
        expect(header(visitor)).to_contain_text(downloading)
        expect(header(visitor)).to_contain_text("Built-in model on cpu")
    one.page.close()
    choose(other, THIRD)
    expect(other.notice).to_contain_text(f"{model} is on its way already")
    answer = Held("Still", " there?")
    gates[BUILT_IN].make().script = answer  # type: ignore[attr-defined]
    other.ask("Still there?")
    other.until(lambda: other.answer == "Still")
    gate.open.set()
    expect(header(other)).to_contain_text(f"{model} takes over as soon as the running answers have ended")
    answer.goes_on.set()
    assert other.answered(2) == "Still there?"
    expect(header(other)).to_contain_text(f"{model} is being loaded")
    other.ask("And now?")
    other.until(lambda: other.note.startswith("loading the model …"))
    expect(header(other)).not_to_contain_text("Now ")
    gate.loads.set()
    assert other.answered(3) == "And now?"
    expect(header(other)).to_contain_text(ENGLISH.changes["done"].format(model=model))
    expect(other.page.locator("#system")).to_be_visible()  # what this model has in addition
    expect(other.page.locator("#picker input")).to_have_value(re.compile(model))
    expect(other.page.locator("#dtype input")).to_have_value("int8")
    asked, _ = gate.make().asked[-1]  # type: ignore[attr-defined]
    assert [message.text for message in asked.messages][::2] == ["Hello", "Still there?", "And now?"]
    assert len(asked.pictures) == 1
    assert (gate.wishes[0][0].dtype, gates[THIRD].wishes) == ("int8", [])


def test_a_change_that_fails_or_is_cancelled_leaves_everything_as_it_was(
    visit: Visit, choosing: Site, gates: dict[str, Gate]
) -> None:
    gate, model = gates[OTHER], find(OTHER).title
    gate.refusal = HardwareError("16.0 GiB are needed, 8.0 GiB are free.")
    visitor = visit(choosing.address)
    temperature = visitor.page.locator("#temperature input[type=number]")
    temperature.fill("0.3")
    choose(visitor, OTHER)
    failed = f"{model} could not be used: 16.0 GiB are needed, 8.0 GiB are free. Built-in model keeps answering."
    expect(header(visitor)).to_contain_text(failed)
    gate.refusal, gate.breaks = None, [HardwareError("The device caught fire.")]
    choose(visitor, OTHER)
    restored = f"{model} could not be loaded: The device caught fire. Built-in model was loaded again and answers."
    expect(header(visitor)).to_contain_text(restored)
    gate.open.clear()
    choose(visitor, OTHER)
    visitor.page.locator("#cancel-change").click()
    expect(header(visitor)).to_contain_text(f"The change to {model} was cancelled.")
    expect(visitor.page.locator("#cancel-change")).to_be_hidden()
    visitor.page.locator("#picker input").click()
    expect(visitor.page.get_by_role("option")).to_have_count(len(cards()))
    visitor.page.keyboard.press("Escape")
    visitor.ask("Hello")
    assert visitor.answered() == "Hello"
    assert gates[BUILT_IN].loaded == 2 and gate.loaded == 1


def test_a_first_model_that_cannot_be_loaded_leaves_a_page_with_others_to_choose(
    visit: Visit, gates: dict[str, Gate]
) -> None:
    gates[BUILT_IN].refusal = HardwareError("needs 17.1 GiB, 8.0 GiB are free.")
    gates[BUILT_IN].open.clear()
    listed = [ListedModel(card, "bf16", True) for card in cards().values()]
    with serve(provider_of(gates, BUILT_IN), Offer(lambda _: listed)) as site:
        visitor = visit(site.address)
        expect(header(visitor)).to_contain_text("downloading, 3.0 of 12.0 GiB (25%)")
        visitor.unfold("models")
        visitor.page.locator("#picker input").click()
        expect(visitor.page.get_by_role("option")).to_have_count(len(cards()))  # also while nothing is known yet
        visitor.page.keyboard.press("Escape")
        gates[BUILT_IN].open.set()
        expect(header(visitor)).to_contain_text("could not be loaded: needs 17.1 GiB")
        visitor.ask("Hello", CIRCLE.picture)
        expect(visitor.notice).to_contain_text("needs 17.1 GiB")
        expect(visitor.box).to_have_value("Hello")
        expect(visitor.attached).to_have_count(1)
        choose(visitor, OTHER)
        expect(header(visitor)).to_contain_text(f"{find(OTHER).title} on cpu")
        visitor.box.press("Enter")
        assert visitor.answered() == "Hello"


def test_a_model_of_the_hub_takes_over_in_the_dtype_that_was_chosen(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For real: network off, then on, then an answer."""
    listed = [ListedModel(card, "bf16", False) for card in cards().values()]
    with on_the_hub(tmp_path, monkeypatch) as hub:
        provider = provide(LOADING, lambda done, total: None)
        with serve(provider, Offer(lambda _: listed, possible_dtypes)) as site:
            visitor = visit(site.address)
            expect(header(visitor)).to_contain_text("Built-in model on cpu")
            monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
            choose(visitor, OTHER, "bf16")
            expect(header(visitor)).to_contain_text("cannot be fetched from the mirror")
            expect(header(visitor)).to_contain_text("Built-in model keeps answering.")
            visitor.sample("circle")
            assert visitor.answered() == CIRCLE.answer
            monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
            choose(visitor, OTHER, "bf16")
            expect(header(visitor)).to_contain_text(f"Now {find(OTHER).title} answers.")
            expect(header(visitor)).to_contain_text("bf16 (as requested)")
            visitor.ask(CIRCLE.question)
            assert visitor.answered(2) == CIRCLE.answer


def test_the_picker_tells_what_each_model_takes_and_the_best_is_one_click_away(
    visit: Visit, choosing: Site, gates: dict[str, Gate]
) -> None:
    best = BEST
    visitor = visit(choosing.address)
    visitor.page.locator("#models").get_by_role("button", name=ENGLISH.model).first.click()
    visitor.page.locator("#picker input").click()
    options = visitor.page.get_by_role("option")
    expect(options).to_have_count(len(cards()))
    lines = options.all_inner_texts()
    line = next(line for line in lines if find(OTHER).title in line)
    name, facts = line.strip().splitlines()[-2:]
    assert name.strip() == "MiniCPM-V 2.6 · 8.1 B" and facts == "fits in int8 · ~9 words/s · ↓ 15.1 GiB"
    whole = "options => options.length && options.every(option => option.scrollWidth <= option.clientWidth)"
    visitor.until(lambda: options.evaluate_all(whole))  # all of both lines can be read on a phone
    visitor.page.keyboard.press("Escape")
    offer = visitor.page.locator("#best-model")
    expect(offer).to_have_text(ENGLISH.best_model.format(model=best.title))
    reason = visitor.page.locator("#best-reason")
    expect(reason).to_have_text("8.7 B, 16.2 GiB to download, about 9 words a second here")
    offer.click()
    visitor.until(lambda: bool(gates[best.name].wishes))
    expect(header(visitor)).to_contain_text(best.title)
    expect(offer).to_be_hidden()
    wish, _ = gates[best.name].wishes[0]
    assert wish.fits == "int8", "it is loaded as it was offered"


def test_a_photo_is_said_to_be_beyond_the_model_and_one_click_chooses_another(
    visit: Visit, choosing: Site, gates: dict[str, Gate]
) -> None:
    visitor = visit(choosing.address)
    lines = visitor.page.locator("#chat .photo-line")
    visitor.ask("What is it?", PHOTO)
    visitor.answered()
    visitor.ask("And now?")
    visitor.answered(2)
    visitor.ask("And this?", CIRCLE.picture)
    visitor.answered(3)
    visitor.reload()
    visitor.until(lambda: len(visitor.notes()) == 3)
    expect(lines).to_have_count(2)  # none for the drawing
    expect(lines.first).to_contain_text(ENGLISH.looks_like_photo)
    button = lines.first.get_by_role("button")
    expect(button).to_have_text(offer_label(BEST, ENGLISH))
    button.click()
    expect(header(visitor)).to_contain_text(ENGLISH.changes["done"].format(model=BEST.title))
    expect(button).to_have_count(0)
    expect(lines).to_have_count(2)  # what the other model said stays as doubtful
    visitor.ask("Once more", PHOTO)
    visitor.answered(4)
    assert len(gates[BEST.name].make().asked) == 1  # type: ignore[attr-defined]
    expect(lines).to_have_count(2)  # this one knows photos


def test_where_the_model_is_fixed_nobody_chooses_and_a_conversation_is_saved_for_reading(visitor: Visitor) -> None:
    expect(visitor.page.locator("#models")).to_be_hidden()
    expect(visitor.page.locator("#system")).to_be_hidden()  # the built-in model takes none
    visitor.ask("What is it?", PHOTO)
    visitor.answered()
    line = visitor.page.locator("#chat .photo-line")
    expect(line).to_have_text(ENGLISH.looks_like_photo)
    expect(line.get_by_role("button")).to_have_count(0)
    visitor.unfold("files")
    with visitor.page.expect_download() as download:
        visitor.page.locator("#export-markdown").click()
    written = download.value.path().read_text(encoding="utf-8")
    assert "What is it?" in written and visitor.answer in written and "data:image/" in written
