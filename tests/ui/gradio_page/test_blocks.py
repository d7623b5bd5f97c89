"""What the browser gets of an event is what Gradio would send, without its work for widgets that stay as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState

from omnilmm.ui.gradio_page.blocks import ORDER, Blocks
from omnilmm.ui.gradio_page.page import Page
from tests.ui.gradio_page.tab import Tab, Updates


def event(page: Page, handler: str) -> Any:
    return next(found for found in page.demo.fns.values() if getattr(found.fn, "__qualname__", "") == handler)


def sent(page: Page, handler: str, updates: Updates, kind: type[gr.Blocks] = Blocks) -> tuple[list[Any], SessionState]:
    """What the browser gets, and what is kept of its session."""
    state = SessionState(page.demo)
    given = {widget: {**value} if isinstance(value, dict) else value for widget, value in updates.items()}
    if kind is gr.Blocks:
        given.pop(ORDER, None)
    return asyncio.run(kind.postprocess_data(page.demo, event(page, handler), given, state)), state


def test_the_browser_gets_what_gradio_itself_sends(page: Page, tab: Tab) -> None:
    w = page.widgets
    alone = {w.chat: [{"role": "user", "content": "one"}]}
    for handler, updates in (
        ("Page.on_load", tab.loaded),
        *(("Answers.ask", drawn) for drawn in tab.ask("one two")),
        ("Answers.ask", alone),
    ):
        own, _ = sent(page, handler, updates, gr.Blocks)
        nothing = gr.skip() | {"props": gr.skip()}  # what it says of an HTML that stays
        assert sent(page, handler, updates)[0] == [gr.skip() if value == nothing else value for value in own]
    assert [value != gr.skip() for value in sent(page, "Answers.ask", alone)[0]].count(True) == 1


def test_a_widget_that_stays_is_not_built_anew_and_none_is_described(page: Page, tab: Tab) -> None:
    w = page.widgets
    _, state = sent(page, "Answers.ask", {w.box: gr.update(submit_btn=False), w.notice: "no"})
    assert state[w.cancel._id] is w.cancel and state[w.chat._id] is w.chat
    assert state[w.box._id].submit_btn is False and state[w.box._id] is not w.box
    assert not any(state.config_values.values())
    described = {one["id"]: one["props"] for one in page.demo.get_config_file()["components"]}
    assert described[w.box._id]["elem_id"] == "question"  # the page itself


def test_what_shows_an_older_state_is_not_sent_after_a_newer_one(page: Page, tab: Tab) -> None:
    """The large update of a page that is opened, ready only when the first question is answered."""
    w, state, answered = page.widgets, SessionState(page.demo), tab.ask("one")[-1]

    def send(handler: str, updates: Updates) -> dict[Any, Any]:
        found = event(page, handler)
        values = asyncio.run(page.demo.postprocess_data(found, updates, state))
        return {widget: value for widget, value in zip(found.outputs, values, strict=True) if value != gr.skip()}

    first = send("Answers.ask", answered)
    assert first[w.shown] == 2 and first[w.box]["submit_btn"] and first[w.notice] == ""
    late = send("Page.on_load", tab.loaded)
    assert not {w.shown, w.notice, w.browser_state} & set(late)
    assert "placeholder" in late[w.chat] and "value" not in late[w.chat]
    assert "placeholder" in late[w.box] and not {"submit_btn", "stop_btn"} & set(late[w.box])
    assert "value" in late[w.continue_answer] and "visible" not in late[w.continue_answer]
    assert late[w.header] == first[w.header]
    said = send("Page.on_load", tab.loaded | {w.notice: "Lost."} | {ORDER: {w.notice: (1, None)}})
    assert said[w.notice] == "Lost.", "nobody would say it again"
    again = send("Page.set_language", page.set_language(tab.request, "zh"))
    assert again[w.shown] == 2 and again[w.chat]["value"] and again[w.box]["submit_btn"]


def test_what_was_yielded_first_is_not_changed_by_what_comes_next(page: Page) -> None:
    found = event(page, "Answers.ask")
    box = found.outputs.index(page.widgets.box)

    def sent_diff(**update: Any) -> Any:
        data = [gr.skip()] * box + [gr.update(**update)] + [gr.skip()] * (len(found.outputs) - box - 1)
        return page.demo.handle_streaming_diffs(found, data, session_hash="tab", run="one", final=False)[box]

    first = sent_diff(submit_btn=False, value={"text": "half a thought", "files": []})
    whole = sent_diff(submit_btn=True)
    assert first["value"]["text"] == "half a thought" and whole == [["replace", [], gr.update(submit_btn=True)]]
    assert sent_diff(submit_btn=False) == [["replace", ["submit_btn"], False]]
