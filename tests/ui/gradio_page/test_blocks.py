"""What the browser gets of an event is what Gradio would send, without its work for widgets that stay as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState

from omnilmm.ui.gradio_page.blocks import Blocks
from omnilmm.ui.gradio_page.page import Page
from tests.ui.gradio_page.tab import Tab, Updates


def event(page: Page, handler: str) -> Any:
    return next(found for found in page.demo.fns.values() if getattr(found.fn, "__qualname__", "") == handler)


def sent(page: Page, handler: str, updates: Updates, kind: type[gr.Blocks] = Blocks) -> tuple[list[Any], SessionState]:
    """What the browser gets, and what is kept of its session."""
    state = SessionState(page.demo)
    given = {widget: {**value} if isinstance(value, dict) else value for widget, value in updates.items()}
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
