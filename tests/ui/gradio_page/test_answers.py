"""What the page shows of a turn, and what becomes of the question box and the uploads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import gradio as gr
import pytest

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Progress, TextDelta
from omnilmm.engine.options import BeamSearch, Sampling
from omnilmm.sentences import Sentence
from omnilmm.ui.answering import Answering
from omnilmm.ui.draft import Draft
from omnilmm.ui.gradio_page.context import merged
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.samples import samples
from omnilmm.ui.texts import ENGLISH
from tests.ui.gradio_page.tab import Tab, answers_with, boxed, given, notice_of, said
from tests.ui.scripted import Held, ScriptedEngine, capable, echo, finished
from tests.waiting import wait_until

EMPTY = {"text": "", "files": []}


def fails(_: Conversation) -> Iterable[Event]:
    raise RuntimeError("caught fire")


def test_a_question_leaves_the_box_once_and_its_upload_the_disk(page: Page, tab: Tab, picture: Path) -> None:
    path = tab.upload(picture)
    updates = tab.ask("one two", path)
    assert [boxed(page, update) for update in updates] == [EMPTY] + [None] * (len(updates) - 1), (
        "by then there may be a new question in it"
    )
    assert said(page, updates[-1])[1].startswith("one two") and said(page, updates[-1])[2] == "one two"
    assert notice_of(page, updates[-1]) == "" and given(updates[-1], page.widgets.box, "submit_btn") is True
    assert not Path(path).exists() and tab.session.conversation.pictures[0].image.size == (6, 4)
    assert '"one two"' in updates[-1][page.widgets.browser_state]
    saved = page.visitors.store.get(tab.visitor.key)
    assert saved is not None and saved.conversation == tab.session.conversation


def test_while_an_answer_is_given_there_is_stop_in_place_of_send(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    engine.script = lambda _: [TextDelta("cut"), finished("cut", reason="length")]
    tab.ask("first")
    engine.script = held = Held("half", " whole")
    turn = page.answers.ask(tab.request, {"text": "?", "files": []}, -1, 2, "", *tab.settings())
    update = next(update for update in turn if "half" in said(page, update))
    box = update[page.widgets.box]
    assert (box["submit_btn"], box["stop_btn"]) == (False, ENGLISH.stop)
    assert page.widgets.browser_state not in update, "what does not change meanwhile is not sent"
    assert given(update, page.widgets.continue_answer, "visible") is False, "of the answer before"
    held.goes_on.set()
    *_, last = turn
    assert (given(last, page.widgets.box, "submit_btn"), given(last, page.widgets.box, "stop_btn")) == (True, False)
    assert boxed(page, last) is None, "it was emptied before: by now there may be a new question in it"


def test_stop_ends_the_answer_of_its_own_visitor_alone(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    engine.script = held = Held("half", " whole")
    turn = page.answers.ask(tab.request, {"text": "?", "files": []}, -1, 0, "", *tab.settings())
    assert any("half" in said(page, update) for update in turn)
    running = tab.session._running
    asyncio.run(page.answers.stop(Tab(page).request))
    assert running and not running.stop.is_set()
    asyncio.run(page.answers.stop(tab.request))
    held.goes_on.set()
    *_, last = turn
    assert ENGLISH.stopped in said(page, last)[2]


def test_a_question_that_fails_comes_back_with_its_picture(
    page: Page, tab: Tab, engine: ScriptedEngine, picture: Path
) -> None:
    tab.ask("before")
    engine.script, path = fails, tab.upload(picture)
    *_, last = tab.ask("?", path, shown=2)
    assert ENGLISH.failed in notice_of(page, last)
    assert boxed(page, last) == {"text": "?", "files": [path]} and Path(path).exists()
    assert tab.texts == ["before", "before"]


def test_somebody_elses_upload_is_refused_and_stays(
    page: Page, tab: Tab, engine: ScriptedEngine, picture: Path
) -> None:
    other = Tab(page)
    path = other.upload(picture)
    for given_path in (path, str(picture), "/etc/passwd"):
        *_, last = tab.ask("?", given_path)
        assert "not among your uploads" in notice_of(page, last)
    assert engine.asked == [] and Path(path).exists() and picture.exists()


def test_an_edit_takes_the_place_of_its_question_and_what_was_typed_before_is_back(
    page: Page, tab: Tab, engine: ScriptedEngine
) -> None:
    thought = {"text": "half a thought", "files": []}
    for number, question in enumerate(("one", "two")):
        tab.ask(question, shown=2 * number)
    begun = page.conversations.edit(tab.request, 0, thought)
    assert (begun[page.widgets.editing], boxed(page, begun)) == (0, {"text": "one", "files": []})
    *_, refused = tab.ask(" ", editing=0, shown=4)
    assert boxed(page, refused) is None and page.widgets.editing not in refused, "the edit goes on"
    works, engine.script = engine.script, fails
    *_, failed = tab.ask("other", editing=0, shown=4)
    assert (boxed(page, failed)["text"], failed[page.widgets.editing]) == ("other", 0), "the edit goes on"
    engine.script = works
    updates = tab.ask("other", editing=0, shown=4)
    assert [boxed(page, update) for update in updates] == [thought] + [None] * (len(updates) - 1)
    assert tab.texts == ["other", "other"] and updates[-1][page.widgets.shown] == 2
    assert boxed(page, page.conversations.cancel(tab.request)) == EMPTY, "it came back once"


def test_only_an_edit_brings_back_what_was_typed_before_it(page: Page, tab: Tab) -> None:
    thought = {"text": "half a thought", "files": []}
    tab.ask("one")
    page.conversations.edit(tab.request, 0, EMPTY)
    assert boxed(page, tab.ask("other", editing=0, shown=2)[0]) == EMPTY, "nothing was typed before"
    page.conversations.edit(tab.request, 0, thought)
    assert boxed(page, tab.ask("two", shown=2)[0]) == EMPTY
    assert boxed(page, page.conversations.cancel(tab.request)) == thought, "a new question is no end of an edit"


def test_stopped_before_its_first_word_only_a_question_from_the_box_is_said_to_be_back(
    page: Page, tab: Tab, engine: ScriptedEngine
) -> None:
    def stops(_: Conversation) -> Iterator[Event]:
        tab.session.stop()
        yield Progress("encoding")

    tab.ask("before")
    engine.script = stops
    *_, last = tab.ask("?", shown=2)
    assert ENGLISH.withdrawn in notice_of(page, last) and boxed(page, last)["text"] == "?"
    *_, last = page.answers.regenerate(tab.request, 2, "", *tab.settings())
    assert ENGLISH.stopped_early in notice_of(page, last) and boxed(page, last) is None


def test_whoever_begins_a_turn_gets_it_unless_it_is_refused(page: Page, tab: Tab) -> None:
    """The live view speaks it."""
    begun: list[Answering] = []

    def drafts() -> Iterator[Draft]:
        return tab.session.ask(page.context.provider, ("one",), Sampling())

    list(page.answers.turn(tab.visitor, (0, ""), drafts, begun=begun.append))
    assert begun == [tab.visitor.answering]
    page.context.max_answers = 0
    list(page.answers.turn(tab.visitor, (2, ""), drafts, begun=begun.append))
    assert len(begun) == 1


def test_a_sample_begins_a_chat_of_its_own_and_leaves_the_box_alone(page: Page, tab: Tab) -> None:
    tab.ask("mine")
    sample = samples()[0]
    updates = list(page.answers.ask_sample(sample)(tab.request, 2, "", *tab.settings()))
    assert [boxed(page, update) for update in updates] == [None] * len(updates)
    assert tab.texts == [sample.question] * 2 and ENGLISH.began_anew in notice_of(page, updates[-1])
    chinese = Tab(page, language="zh-CN")
    list(page.answers.ask_sample(sample)(chinese.request, 0, "", *chinese.settings()))
    assert chinese.texts[0] == sample.asked_in("zh") != sample.question


def test_regenerate_and_continue(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    *_, last = page.answers.regenerate(tab.request, 0, "", *tab.settings())
    assert str(Sentence("nothing_to_regenerate")) in notice_of(page, last) and boxed(page, last) is None
    engine.script = lambda _: [TextDelta("cut"), finished("cut", reason="length")]
    *_, last = tab.ask("one")
    assert given(last, page.widgets.continue_answer, "visible") is True
    list(page.answers.regenerate(tab.request, 2, "", *tab.settings()))
    assert tab.texts == ["one", "cut"] and len(engine.asked) == 2
    engine.script = lambda _: [TextDelta("whole"), finished("whole")]
    *_, last = page.answers.continue_(tab.request, 2, "", *tab.settings())
    assert tab.texts == ["one", "cut", ENGLISH.continue_question, "whole"]
    assert given(last, page.widgets.continue_answer, "visible") is False


def test_the_settings_reach_the_engine_and_a_wrong_one_is_said(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask("?", system=" Be brief. ", top_k=12, seed="7", max_new_tokens=99)
    asked, options = engine.asked[-1]
    card = engine.card
    assert options == Sampling(**{**card.sampling.model_dump(), "top_k": 12}, seed=7, max_new_tokens=99)
    assert asked.system == "Be brief."
    tab.ask("?", shown=2, mode="beam", beams=5)
    options = engine.asked[-1][1]
    assert isinstance(options, BeamSearch) and options.beams == 5
    *_, last = tab.ask("?", shown=4, seed="seven")
    assert "seed" in notice_of(page, last) and boxed(page, last)["text"] == "?" and len(engine.asked) == 2
    without = ScriptedEngine(card=capable(system_prompt=False))
    answers_with(page, without)
    other = Tab(page)
    other.ask("?", system="Be brief.")
    assert without.asked[-1][0].system is other.session.conversation.system is None


def test_settings_of_a_model_that_answers_no_more_are_not_those_of_the_new_one(page: Page, tab: Tab) -> None:
    """Its page has not been drawn anew yet: the new model answers with its own defaults."""
    other = ScriptedEngine(card=capable(name="other"))
    answers_with(page, other)
    tab.ask("?", top_k=12)
    options = other.asked[-1][1]
    assert isinstance(options, Sampling) and options.top_k == other.card.sampling.top_k != 12


def test_beyond_as_many_as_may_wait_a_question_comes_back(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    page.context.max_answers = Page(page.context.provider, max_answers=1).context.max_answers
    engine.script = held = Held("a", "b")
    first = threading.Thread(target=tab.ask, args=("first",))
    first.start()
    wait_until(lambda: engine.asked)
    (refused,) = Tab(page).ask("second")
    assert ENGLISH.many_waiting.format(count=1) in notice_of(page, refused)
    assert boxed(page, refused) == {"text": "second", "files": []}
    held.goes_on.set()
    first.join(60)
    assert len(engine.asked) == 1
    engine.script, second = echo, Tab(page)
    second.ask("second")
    assert second.texts == ["second", "second"]


class Waits(threading.Event):
    """Notes that somebody waited for it."""

    waited = False

    def wait(self, timeout: float | None = None) -> bool:
        self.waited = True
        return True


def test_a_question_waits_for_what_was_there_only_on_a_page_that_shows_nothing_yet(page: Page, tab: Tab) -> None:
    restored = tab.visitor.is_restored = Waits()
    tab.ask("one")
    assert restored.waited and restored.is_set(), "once, if the page was opened before the server"
    restored = tab.visitor.is_restored = Waits()
    tab.ask("two", shown=2)
    assert not restored.waited


def test_a_server_that_lost_a_conversation_says_so_before_it_answers(page: Page, engine: ScriptedEngine) -> None:
    tab = Tab(page)
    (refused,) = tab.ask("and?", shown=2)
    assert ENGLISH.lost in notice_of(page, refused) and boxed(page, refused)["text"] == "and?"
    other = Tab(page)
    other.ask("one")
    state = other.visitor.browser_state()
    anew = Tab(page, user="somebody else")
    (restored,) = anew.ask("and?", shown=2, state=state)
    assert ENGLISH.restored_text in notice_of(page, restored) and anew.texts == ["one", "one"]
    anew.ask("and?", shown=2)
    assert [message.text for message in engine.asked[-1][0].messages] == ["one", "one", "and?"]


def test_for_a_closed_tab_nothing_is_drawn_any_more(page: Page, tab: Tab, engine: ScriptedEngine) -> None:
    def leaves(_: Conversation) -> Iterator[Event]:
        page.visitors.get(str(tab.request.session_hash)).session.close()
        yield TextDelta("for nobody")

    engine.script = leaves
    updates = tab.ask("?")
    assert all("for nobody" not in said(page, update) for update in updates)
    assert not [update for update in updates if page.widgets.browser_state in update], "no last one"
    assert engine.closed == 1


def test_a_tab_that_is_closed_just_as_its_answer_begins_does_not_keep_the_model(
    page: Page, tab: Tab, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too early for Stop: nothing is running yet."""
    monkeypatch.setattr(Conversation, "check_question", lambda _: tab.session.close())
    words = iter(range(1000))
    engine.script = lambda _: (TextDelta("word ") for _ in words)
    tab.ask("?")
    assert engine.closed == 1 and next(words) < 10


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_question_asks_nothing(page: Page, tab: Tab, engine: ScriptedEngine, text: str) -> None:
    *_, last = tab.ask(text)
    assert "empty" in notice_of(page, last) and engine.asked == []
    assert boxed(page, last) is None, "by then the next one may be in the box"


def test_what_two_handlers_say_about_one_widget_is_both_said() -> None:
    first = {"box": gr.update(value=1), "file": {"name": "a", "type": "b"}, "text": "old"}
    second = {"box": gr.update(visible=False), "file": {"name": "c"}, "text": "new", "more": 2}
    assert merged(first, second) == {
        "box": {"__type__": "update", "value": 1, "visible": False},
        "file": {"name": "c"},
        "text": "new",
        "more": 2,
    }
