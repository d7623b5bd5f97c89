"""Runs of the page, each of which goes on to its end."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NoReturn

import streamlit as st
from streamlit.delta_generator_singletons import context_dg_stack, get_default_dg_stack_value
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

_redraws: ContextVar[bool] = ContextVar("whether the page itself asks to be drawn anew", default=False)


class WholeRunner(ScriptRunner):
    """Streamlit's runner of the page, which begins another run only when the one before has ended.

    Streamlit (1.67) breaks off a run as soon as the browser asks for the next one, at any access to a widget. If that
    is in the callback of a click, it takes the request for the callback's own: the click is lost, or half done.
    """

    def _run_script(self, rerun_data: RerunData) -> None:
        context_dg_stack.set(get_default_dg_stack_value())  # a fragment's run before it leaves its own place
        super()._run_script(rerun_data)

    def _maybe_handle_execution_control_request(self) -> None:
        if self._requests._state is not ScriptRequestType.RERUN or _redraws.get():
            super()._maybe_handle_execution_control_request()


def redraw() -> NoReturn:
    """Break off the run of now, and draw the whole page."""
    token = _redraws.set(True)
    try:
        st.rerun()
    finally:
        _redraws.reset(token)
