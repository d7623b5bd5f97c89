"""The picker, a change of models, and what of the page depends on which one answers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.conversation import Conversation
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.options import MODES
from omnilmm.errors import HardwareError
from omnilmm.model_lookup import find
from omnilmm.ui.gradio_page.context import OUTDATED, merged
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.gradio_page.widgets import CHANGING_POLL_S, IDLE_POLL_S
from omnilmm.ui.offer import Offer
from omnilmm.ui.texts import ENGLISH, texts_in
from tests.engine.gate import Gate, provider_of
from tests.ui.gradio_page.tab import Tab, Updates, given, notice_of, said
from tests.ui.scripted import ScriptedEngine

OTHER, BEST = "minicpm-v-2.6", "minicpm-v-4.5"
Gates = dict[str, Gate]


@pytest.fixture
def gates(page: Page) -> Iterator[Gates]:
    """All models fit and can be chosen; the built-in one answers."""
    gates = {name: Gate(lambda card=card: ScriptedEngine(card=card)) for name, card in cards().items()}  # type: ignore[misc]
    page.context.provider = provider_of(gates, BUILT_IN)
    page.context.provider.wait()
    listed = [ListedModel(card, "int8", card.name == BUILT_IN, 12.0) for card in cards().values()]
    page.context.offer = Offer(lambda _: listed, lambda: ["fp32", "int8"])
    yield gates
    page.context.provider.stop()


def test_the_picker_has_every_model_and_names_the_best(page: Page, gates: Gates) -> None:
    w, loaded = page.widgets, Tab(page).loaded
    choices = given(loaded, w.picker, "choices")
    assert [name for _, name in choices] == list(cards()) and given(loaded, w.picker, "value") == BUILT_IN
    assert all(len(line.splitlines()) == 2 for line, _ in choices)
    assert given(loaded, w.dtype, "choices") == [(ENGLISH.automatic, "auto"), ("fp32", "fp32"), ("int8", "int8")]
    assert given(loaded, w.best, "value") == ENGLISH.best_model.format(model=find(BEST).title)
    assert "GiB to download" in given(loaded, w.best_reason, "value")
    wished = w.dtypes(["auto", "fp32"], "int4", ENGLISH)
    assert given(wished, w.dtype, "choices")[-1] == ("int4", "int4"), "it was asked for by a flag"


def test_a_change_is_followed_by_what_the_new_model_can(page: Page, gates: Gates) -> None:
    w, tab, gate = page.widgets, Tab(page), gates[OTHER]
    gate.open.clear()
    begun = page.choices.switch(tab.request, OTHER, "int8")
    assert gate.reported.wait(60)
    during = page.choices.show_model(tab.request)
    assert "is being downloaded" in during[w.header] and given(during, w.cancel_change, "visible") is True
    assert during[w.timer].value == CHANGING_POLL_S and given(during, w.picker, "value") == OTHER
    assert w.picker not in begun, "it is not over yet"
    assert notice_of(page, begun) == ""
    refused = page.choices.switch(tab.request, BEST, "auto")
    assert "is on its way already" in notice_of(page, refused) and not gates[BEST].wishes
    gate.open.set()
    page.context.provider.wait()
    after = page.choices.show_model(tab.request)
    assert f"Now {find(OTHER).title} answers" in after[w.header] and after[w.timer].value == IDLE_POLL_S
    assert given(after, w.system, "visible") is True and given(after, w.dtype, "value") == "int8"
    assert after[w.about] == ENGLISH.about(find(OTHER)) and w.chat in after
    assert gate.wishes[0][0].dtype == "int8"
    assert w.picker not in page.choices.show_model(tab.request), "said once, or it could not be opened"
    assert gate.wishes[0][0].fits == "int8"


def test_whoever_is_told_that_a_change_has_ended_has_the_picker_with_it(
    page: Page, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends while the first update is rendered; later, the picker might have another choice in it already."""
    w, tab, gate, provider = page.widgets, Tab(page), gates[OTHER], page.context.provider
    gate.open.clear()
    render = page.context.render

    def ends(*arguments: Any, **more: Any) -> Updates:
        gate.open.set()
        provider.wait()
        return render(*arguments, **more)

    monkeypatch.setattr(page.context, "render", ends)
    begun = page.choices.switch(tab.request, OTHER, "auto")
    assert f"Now {find(OTHER).title} answers" in begun[w.header] and given(begun, w.picker, "value") == OTHER
    assert w.picker not in page.choices.show_model(tab.request)


def test_the_conversation_is_not_rendered_before_it_is_restored(page: Page, gates: Gates) -> None:
    """A reloaded page asks for the model at once: an answer that comes late would empty it again."""
    w, before = page.widgets, Tab(page)
    before.ask("one")
    before.session.set_system("Be brief.")
    page.context.visitors.save(before.visitor)
    request = SimpleNamespace(session_hash="reloaded", username=None, headers={})
    early = page.choices.show_model(request)
    assert w.picker in early and w.chat not in early and "value" not in early[w.system]
    refused = page.choices.switch(request, "no-such-model", "auto")
    for updates in (page.set_language(request, "zh"), refused, page.conversations.undo(request, {})):
        assert w.notice in updates and not {w.shown, w.browser_state} & set(updates)
        assert "value" not in updates.get(w.chat, {})
    loaded = page.on_load(request, before.visitor.browser_state(), "")
    assert said(page, loaded)[0].startswith("one") and given(loaded, w.system, "value") == "Be brief."
    page.choices.switch(request, OTHER, "auto")
    page.context.provider.wait()
    assert said(page, page.choices.show_model(request))[0].startswith("one")


def test_a_page_of_before_the_server_can_be_emptied(page: Page) -> None:
    request = SimpleNamespace(session_hash="old", username=None, headers={})
    emptied = page.conversations.forget(request)
    assert said(page, emptied) == [] and emptied[page.widgets.shown] == 0


def test_a_change_keeps_the_system_prompt_and_forgets_how_finely_pictures_were_seen(page: Page, gates: Gates) -> None:
    w, tab = page.widgets, Tab(page)
    assert tab.loaded[w.seen] != OUTDATED, "it is drawn with the page"
    tab.session.load(Conversation(system="Be brief."))
    tab.visitor.max_slices, tab.visitor.finer_detail = 3, True
    begun = page.choices.switch(tab.request, OTHER, "auto")
    page.context.provider.wait()
    shown = merged(begun, page.choices.show_model(tab.request))  # the change may have ended with the first of them
    assert given(shown, w.system, "value") == "Be brief." and shown[w.seen] == OUTDATED
    assert (tab.visitor.max_slices, tab.visitor.finer_detail) == (None, False)
    tab.visitor.max_slices = 3
    again = page.choices.settings(tab.visitor)
    assert w.seen not in again and tab.visitor.max_slices == 3, "the same model"


def test_a_change_that_fails_or_is_cancelled_leaves_the_model_of_now(page: Page, gates: Gates) -> None:
    tab, gate = Tab(page), gates[OTHER]
    gate.refusal = HardwareError("16.0 GiB are needed <b>.")
    page.choices.switch(tab.request, OTHER, "auto")
    page.context.provider.wait()
    header = page.choices.show_model(tab.request)[page.widgets.header]
    assert "could not be used: 16.0 GiB are needed &lt;b&gt;." in header
    gate.refusal = None
    gate.open.clear()
    page.choices.switch(tab.request, OTHER, "auto")
    page.choices.cancel(tab.request)
    page.context.provider.wait()
    assert "was cancelled" in page.choices.show_model(tab.request)[page.widgets.header]
    assert page.context.provider.card.name == BUILT_IN


def test_a_change_that_has_ended_at_once_leaves_the_picker_alone_from_then_on(
    page: Page, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees how it ended may choose again: what they choose is not taken back a moment later."""
    w, tab, provider = page.widgets, Tab(page), page.context.provider
    gates[OTHER].breaks = [HardwareError("The device caught fire.")]
    switch = provider.switch
    monkeypatch.setattr(provider, "switch", lambda *wish: switch(*wish) and provider.wait())
    ended = page.choices.switch(tab.request, OTHER, "auto")
    assert "was loaded again" in ended[w.header] and given(ended, w.picker, "value") == BUILT_IN
    assert w.picker not in page.choices.show_model(tab.request)


@pytest.mark.parametrize("name", ["no-such-model", None, ["a"]])
def test_what_is_no_model_changes_nothing(page: Page, gates: Gates, name: object) -> None:
    updates = page.choices.switch(Tab(page).request, name, "auto")
    assert "notice" in notice_of(page, updates) and not page.context.provider.is_changing


def test_the_best_is_one_click_away(page: Page, gates: Gates) -> None:
    page.choices.switch_to_best(Tab(page).request)
    page.context.provider.wait()
    assert page.context.provider.card.name == BEST


def test_where_the_model_is_fixed_nobody_changes_it(page: Page, tab: Tab) -> None:
    before = page.context.provider
    for updates in (
        page.choices.switch(tab.request, OTHER, "auto"),
        page.choices.switch_to_best(tab.request),
        page.choices.cancel(tab.request),
    ):
        assert given(updates, page.widgets.cancel_change, "visible") is False
    assert page.context.provider is before and not before.is_changing
    assert "choices" not in tab.loaded[page.widgets.picker]


def test_each_mode_has_its_own_controls_and_a_way_back_to_the_defaults(page: Page, tab: Tab) -> None:
    for mode in MODES:
        shown = [column.visible for column in page.choices.show_controls(mode)]
        assert shown == [mode == other for other in MODES]
    tab.visitor.max_slices, tab.visitor.finer_detail = 3, True
    card, defaults = page.context.provider.card, page.choices.reset(tab.request)
    assert (tab.visitor.max_slices, tab.visitor.finer_detail) == (None, False), "of what the model sees, too"
    values = {name: given(defaults, widget, "value") for of, name, widget in page.widgets.controls if of != "beam"}
    assert values["top_k"] == card.sampling.top_k and values["seed"] == ""
    assert values["max_new_tokens"] == card.max_new_tokens
    assert all(given(defaults, widget, "minimum") > 0 for _, name, widget in page.widgets.controls if name == "top_p")


def test_every_word_of_a_widget_is_said_in_both_languages(page: Page) -> None:
    card = page.context.provider.card
    both = [page.widgets.localize(texts_in(code), card) for code in ("en", "zh")]
    assert list(both[0]) == list(both[1])
    same = set()
    for english, chinese in zip(both[0].values(), both[1].values(), strict=True):
        named = (english, chinese) if isinstance(english, dict) else ({"value": english}, {"value": chinese})
        texts = [{name: one.get(name) for name in ("label", "info", "placeholder", "value")} for one in named]
        same |= {text for name, text in texts[0].items() if text and text == texts[1][name]}
    assert same == {ENGLISH.title, "Top P", "Top K"}


def test_the_switch_for_thinking_is_there_where_the_model_has_one(page: Page, gates: Gates) -> None:
    w, tab = page.widgets, Tab(page)
    assert given(tab.loaded, w.thinking, "visible") is False
    assert page.answers.options(tab.visitor, tab.settings(thinking=True)).thinking is None  # it cannot be seen
    begun = page.choices.switch(tab.request, BEST, "auto")
    page.context.provider.wait()
    shown = merged(begun, page.choices.show_model(tab.request))
    assert (given(shown, w.thinking, "visible"), given(shown, w.thinking, "value")) == (True, False)
    for wish in (True, False):
        assert page.answers.options(tab.visitor, tab.settings(thinking=wish)).thinking is wish
    # What is known only once a model is loaded appears without setting anything else back.
    again = page.choices.settings(tab.visitor)
    tab.visitor.card = tab.visitor.card.model_copy(update={"thinking": None})
    late = page.choices.settings(tab.visitor)
    assert w.thinking not in again and given(late, w.thinking, "visible") is True
    assert w.controls[0][2] not in late
