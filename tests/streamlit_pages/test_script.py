"""The page's script by itself, without server and browser, with an engine that says what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.options import BeamSearch, Greedy, Sampling
from omnilmm.engine.provider import ModelProvider
from omnilmm.ui import drawing
from omnilmm.ui.controls import mode_controls
from omnilmm.ui.markup import plain_markdown
from omnilmm.ui.offer import Offer
from omnilmm.ui.samples import samples
from omnilmm.ui.streamlit_page import past, server_state
from omnilmm.ui.streamlit_page.visitor import QUESTION, Visitor
from omnilmm.ui.texts import ENGLISH, texts_in
from tests.engine.gate import Gate, provider_of
from tests.ui.scripted import ScriptedEngine, capable, finished
from tests.waiting import wait_until

PROGRAM = str(Path(__file__).parents[2] / "web_demo_streamlit.py")
PATIENCE_S = 60


@pytest.fixture
def engine() -> ScriptedEngine:
    engine = ScriptedEngine()
    server_state.serve(ModelProvider.holding(engine))
    return engine


@pytest.fixture(autouse=True)
def browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none: somebody goes on looking at the page all the same, and has no cookies."""
    monkeypatch.setattr(Visitor, "is_watched", lambda self: True)
    monkeypatch.setattr(past, "account_in", lambda cookie: "")


@pytest.fixture
def page(engine: ScriptedEngine) -> AppTest:
    return drawn(AppTest.from_file(PROGRAM, default_timeout=PATIENCE_S).run())


def drawn(page: AppTest) -> AppTest:
    assert not page.exception
    return page


def visitor(page: AppTest) -> Visitor:
    found: Visitor = page.session_state.visitor
    return found


def answered(page: AppTest) -> AppTest:
    """The page once its answer has ended."""
    if running := visitor(page).answering:
        assert running.done.wait(PATIENCE_S)
    return drawn(page.run())


def ask_sample(page: AppTest, number: int = 0) -> AppTest:
    return answered(drawn(page.button(key=f"ask-{number}").click().run()))


def said(page: AppTest) -> list[str]:
    return [message.text for message in visitor(page).session.conversation.messages]


def test_a_live_view_elsewhere_is_linked_to(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not page.get("link_button")
    monkeypatch.setattr(server_state.SERVER, "live_url", "https://example.org:7860")
    (link,) = drawn(page.run()).get("link_button")
    assert (link.proto.url, link.proto.label) == ("https://example.org:7860", ENGLISH.live["open"])  # type: ignore[attr-defined]


def test_a_redrawn_page_repeats_and_loses_nothing(page: AppTest, engine: ScriptedEngine) -> None:
    ask_sample(page)
    question = samples()[0].question
    for _ in range(3):
        drawn(page.run())
    assert said(page) == [question, question]
    assert len(engine.asked) == 1
    assert len(visitor(page).session.conversation.pictures) == 1


def test_every_redrawing_during_an_answer_leaves_it_alone(page: AppTest, engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def held(conversation: Conversation) -> Iterable[Event]:
        yield TextDelta("half")
        gate.wait(PATIENCE_S)
        yield TextDelta(" whole")
        yield finished("half whole")

    engine.script = held
    page.button(key="ask-0").click().run()
    for mode in ("beam", "sampling"):
        drawn(page.radio(key="mode").set_value(mode).run())
    assert visitor(page).answering is not None
    gate.set()
    answered(page)
    assert said(page) == [samples()[0].question, "half whole"]
    assert len(engine.asked) == 1


def test_stop_keeps_the_part_and_offers_to_go_on(page: AppTest, engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def held(conversation: Conversation) -> Iterable[Event]:
        yield TextDelta("half")
        while not gate.wait(0.05):
            yield TextDelta("")

    engine.script = held
    page.button(key="ask-0").click().run()
    running = visitor(page).answering
    assert running
    wait_until(lambda: running.draft and running.draft.text)
    page.run()
    page.button(key="stop").click().run()
    answered(page)
    gate.set()
    assert said(page)[1] == "half"
    assert engine.closed == 1
    engine.script = lambda _: [TextDelta("rest"), finished("rest")]
    answered(page.button(key="continue-answer").click().run())
    assert said(page)[2:] == [ENGLISH.continue_question, "rest"]


def test_each_mode_has_its_own_controls_and_they_reach_the_engine(page: AppTest, engine: ScriptedEngine) -> None:
    def labels() -> set[str]:
        return {widget.label for widget in (*page.slider, *page.text_input)}

    length = {ENGLISH.labels["max_new_tokens"]}
    assert labels() == {control.label for control in mode_controls(engine.card, "sampling")} | length
    page.slider(key=f"sampling-temperature-{engine.card.name}").set_value(0.0).run()
    page.text_input(key=f"sampling-seed-{engine.card.name}").set_value("7").run()
    ask_sample(page)
    options = engine.asked[-1][1]
    assert isinstance(options, Greedy)
    page.slider(key=f"sampling-temperature-{engine.card.name}").set_value(0.5).run()
    answered(page.button(key="regenerate").click().run())
    options = engine.asked[-1][1]
    assert isinstance(options, Sampling) and options.seed == 7
    page.radio(key="mode").set_value("greedy").run()
    assert labels() == {control.label for control in mode_controls(engine.card, "greedy")} | length
    page.radio(key="mode").set_value("beam").run()
    assert labels() == {control.label for control in mode_controls(engine.card, "beam")} | length
    page.slider(key=f"beam-beams-{engine.card.name}").set_value(5).run()
    answered(page.button(key="regenerate").click().run())
    options = engine.asked[-1][1]
    assert isinstance(options, BeamSearch)
    assert options.beams == 5
    page.button(key="reset").click().run()
    assert page.slider(key=f"beam-beams-{engine.card.name}").value == engine.card.beam.beams


def test_a_wrong_seed_is_told_and_asks_nothing(page: AppTest, engine: ScriptedEngine) -> None:
    page.text_input(key=f"sampling-seed-{engine.card.name}").set_value("seven").run()
    page.button(key="ask-0").click().run()
    assert "seed" in page.warning[0].value
    assert engine.asked == []


def test_a_failed_turn_leaves_no_trace_and_gives_the_question_back(page: AppTest, engine: ScriptedEngine) -> None:
    ask_sample(page)
    engine.script = lambda _: (_ for _ in ()).throw(RuntimeError("caught fire"))
    page.session_state.visitor.ask_this("And now?")
    answered(page)
    assert page.warning[0].value == ENGLISH.failed
    assert said(page) == [samples()[0].question] * 2


def test_boxes_are_drawn_and_named(page: AppTest, engine: ScriptedEngine) -> None:
    text = "<ref>a circle</ref><box>300 200 700 800</box> and <box>0 0 100 100</box> here"
    engine.script = lambda _: [TextDelta(text), finished(text)]
    ask_sample(page)
    shown = [markdown.value for markdown in page.markdown]
    assert any("-badge[a circle]" in value and " and " in value and value.endswith(" here") for value in shown)
    assert said(page)[1] == text, "the model must see its own words again"


def test_regions_are_drawn_on_the_newest_of_several_pictures(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn_on(image: Image.Image, _: object) -> Image.Image:
        widths.append(image.width)
        return image

    widths: list[int] = []
    monkeypatch.setattr(drawing, "with_regions", drawn_on)
    first, second, third = (Picture(Image.new("RGB", (width, 8))) for width in (11, 12, 13))
    talk = Conversation()
    for parts in (("Is it there?",), (first, second, "Here?"), ("And now?",), (third, "And here?")):
        talk = talk.with_message("user", *parts).with_message("assistant", "<box>1 1 9 9</box>")
    visitor(page).session.load(talk)
    drawn(page.run())
    assert widths == [12, 12, 13], "none where there is no picture, and never one of a later turn"


def test_a_picture_of_a_thousand_times_its_height_is_shown(page: AppTest) -> None:
    asked = Conversation().with_message("user", Picture(Image.new("RGB", (6000, 2))), "Where?")
    visitor(page).session.load(asked.with_message("assistant", "<box>1 1 9 9</box>"))
    drawn(page.run())


def test_nothing_that_is_said_is_markup(page: AppTest, engine: ScriptedEngine) -> None:
    """A title comes from a card, a notice repeats the name of an upload, a region what a model says."""
    evil = "![spy](http://spy.example/x.png) <b>*bold*</b>"
    told, me = plain_markdown(evil), visitor(page)
    card = engine.card.model_copy(update={"title": evil})
    server_state.serve(ModelProvider.holding(ScriptedEngine(card=card)))
    answer = f"<ref>{evil}</ref><box>1 1 9 9</box>"
    me.session.load(Conversation().with_message("user", evil).with_message("assistant", answer))
    me.notice, me.attachments.refused = evil, f"{evil}: This file is not a picture"
    drawn(page.run())
    assert [warning.value for warning in page.warning] == [told, f"{told}: This file is not a picture"]
    values = [widget.value for widget in (*page.markdown, *page.caption)]
    assert {told, f":orange-badge[{told}]"} <= set(values)
    assert any(value.startswith(f"{told} on cpu") for value in values)
    assert not [value for value in values if "![spy]" in value or "<b>" in value]


def test_what_can_be_done_depends_on_what_is_there(page: AppTest, engine: ScriptedEngine) -> None:
    def keys() -> set[str]:
        return {str(button.key) for button in page.button}

    assert {"ask-0"} <= keys() and not {"regenerate", "undo", "clear", "continue-answer", "stop", "switch"} & keys()
    assert page.get("download_button")[0].proto.disabled and not page.text_area, "this model takes no system prompt"
    ask_sample(page)
    assert {"regenerate", "undo", "clear", "edit-0", "seen-0-0"} <= keys()
    assert not {"ask-0", "continue-answer", "stop"} & keys() and not page.get("download_button")[0].proto.disabled
    able = ScriptedEngine(card=capable())
    server_state.serve(ModelProvider.holding(able))
    drawn(page.run())
    page.text_area[0].set_value(" Rhyme. ").run()
    answered(page.button(key="regenerate").click().run())
    assert able.asked[-1][0].system == "Rhyme."
    drawn(page.button(key="edit-0").click().run())
    page.text_area(key="edited-0").set_value("Is there a star?").run()
    answered(page.button(key="edit-save").click().run())
    assert said(page) == ["Is there a star?"] * 2 and len(visitor(page).session.conversation.pictures) == 1
    drawn(page.button(key="clear").click().run())
    assert said(page) == [] and "ask-0" in keys()


def test_another_model_takes_over_and_the_conversation_stays(page: AppTest, engine: ScriptedEngine) -> None:
    ask_sample(page)
    other = ScriptedEngine(card=engine.card.model_copy(update={"name": "other", "title": "The other"}))
    server_state.serve(ModelProvider.holding(other))
    drawn(page.run())
    assert any("The other" in caption.value for caption in page.caption)
    answered(page.button(key="regenerate").click().run())
    assert len(other.asked) == 1
    assert len(said(page)) == 2


def test_the_dtype_is_chosen_with_the_model() -> None:
    gates = {name: Gate(lambda card=card: ScriptedEngine(card=card)) for name, card in cards().items()}  # type: ignore[misc]
    provider = provider_of(gates, BUILT_IN)
    provider.wait()
    listed = [ListedModel(card, "int8", True) for card in cards().values()]
    server_state.serve(provider, Offer(lambda _: listed, lambda: ["fp32", "int8"]))
    page = drawn(AppTest.from_file(PROGRAM, default_timeout=PATIENCE_S).run())
    assert page.selectbox(key="dtype").options == [ENGLISH.automatic, "fp32", "int8"]
    assert page.button(key="switch").disabled, "it answers already"
    page.selectbox(key="model").set_value("minicpm-v-2.6").run()
    page.selectbox(key="dtype").set_value("int8")  # and the click comes before this is drawn
    drawn(page.button(key="switch").click().run())
    provider.wait()
    drawn(page.run())
    assert gates["minicpm-v-2.6"].wishes[0][0] == ModelRequest("minicpm-v-2.6", "int8", "int8")
    assert (page.selectbox(key="model").value, page.selectbox(key="dtype").value) == ("minicpm-v-2.6", "int8")
    assert any("MiniCPM-V 2.6" in caption.value for caption in page.caption)


def test_two_visitors_share_nothing_but_the_engine(page: AppTest, engine: ScriptedEngine) -> None:
    other = drawn(AppTest.from_file(PROGRAM, default_timeout=PATIENCE_S).run())
    ask_sample(page)
    drawn(other.run())
    assert said(other) == []
    assert len({id(owner) for owner in engine.owners}) == 1
    ask_sample(other, 1)
    assert len({id(owner) for owner in engine.owners}) == 2
    assert said(page)[0] != said(other)[0]


def test_every_word_is_chinese_on_wish(page: AppTest) -> None:
    page.radio(key="language").set_value("zh").run()
    chinese = texts_in("zh")
    assert page.chat_input(key=QUESTION).placeholder == chinese.question_placeholder
    assert page.radio(key="mode").label == chinese.decode_type
    ask_sample(page)
    assert page.button(key="regenerate").label == chinese.regenerate
