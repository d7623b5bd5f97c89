"""Components of the page with a script that runs in the browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

_IN_ORDER_JS = """
const newest = {}
export default function (component) {
  const { drawn, content } = component.data, before = newest[drawn.key]
  if (before?.session === drawn.session && before.time > drawn.time) return
  newest[drawn.key] = drawn
  draw({ ...component, data: content })
}
"""


def component(name: str, *, js: str, html: str | None = None, css: str | None = None) -> Callable[..., None]:
    """Declare a component whose script never runs with data that is older than what it ran with last.

    Streamlit (1.67) runs scripts asynchronously, and now and then in another order than that in which the page was
    drawn: the browser would be left in an older state of the page.

    Args:
        name: unique among the components of the page.
        js: declares `function draw({ data, parentElement, setTriggerValue })`.
        html: what `parentElement` contains at first.
        css: its style.

    Returns:
        Draws the component; takes its key, the data for the script, and the options of Streamlit's components.
    """
    draw = st.components.v2.component(name, html=html, css=css, js=js + _IN_ORDER_JS)

    def place(*, key: str, data: Mapping[str, Any], **more: Any) -> None:
        context = get_script_run_ctx()
        drawn = {"key": key, "session": context.session_id if context else "", "time": time.monotonic()}
        draw(key=key, data={"drawn": drawn, "content": data}, **more)

    return place
