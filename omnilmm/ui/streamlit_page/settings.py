"""The settings beside the conversation: the controls of each mode, initially at the model's defaults.

They are a fragment: changing one redraws the settings alone, never the conversation or an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import streamlit as st

from omnilmm.catalog import ModelCard
from omnilmm.engine.options import MODES, Mode, Options
from omnilmm.ui.controls import (
    Control,
    length_control,
    mode_controls,
    modes_of,
    options_from_controls,
    slices_control,
    switched,
)
from omnilmm.ui.streamlit_page.runs import redraw
from omnilmm.ui.texts import ENGLISH, Texts

MODE = "mode"  # key of the mode selector


@st.fragment
def draw_settings(card: ModelCard, texts: Texts, is_corrected: Callable[[], bool]) -> None:
    """Draw the controls of the chosen mode, and a button that resets them.

    Args:
        card: the card of the model.
        texts: in the visitor's language.
        is_corrected: whether an invalid setting that the page reports has been corrected.
    """
    modes = modes_of(card)
    if st.session_state.get(MODE) not in modes:
        st.session_state[MODE] = modes[0]
    st.radio(
        texts.decode_type,
        modes,
        format_func=lambda mode: texts.modes[mode],
        key=MODE,
        horizontal=True,
        persist_state="session",
    )
    if card.thinking is not None:
        key = _thinking_key(card)
        st.session_state.setdefault(key, card.thinking)
        st.toggle(texts.thinking_switch, help=texts.thinking_help, key=key, persist_state="session")
    if card.finer_detail:
        key = _finer_key(card)
        st.session_state.setdefault(key, False)
        st.toggle(texts.finer_detail, help=texts.finer_detail_help, key=key, persist_state="session")
    for key, control in _controls(card, st.session_state[MODE], texts):
        _widget(control, key, texts)
    st.button(texts.reset, key="reset", type="tertiary", icon=":material/restart_alt:", on_click=reset, args=(card,))
    if is_corrected():
        redraw()  # the whole page, without the notice


def options(card: ModelCard) -> Options:
    """Return the chosen options.

    Raises:
        OptionsError: A value is invalid.
    """
    mode: Mode = st.session_state.get(MODE, MODES[0])
    mode = mode if mode in modes_of(card) else MODES[0]
    chosen: dict[str, Any] = {
        control.name: st.session_state.get(key, control.default) for key, control in _controls(card, mode, ENGLISH)
    }
    thinking = st.session_state.get(_thinking_key(card), card.thinking)
    chosen |= switched(card, thinking, st.session_state.get(_finer_key(card), False))
    return options_from_controls(card, mode, chosen)


def reset(card: ModelCard) -> None:
    """Reset every control to the model's default."""
    st.session_state[_thinking_key(card)], st.session_state[_finer_key(card)] = bool(card.thinking), False
    for mode in MODES:
        for key, control in _controls(card, mode, ENGLISH):
            st.session_state[key] = _default(control)


def _controls(card: ModelCard, mode: Mode, texts: Texts) -> Iterator[tuple[str, Control]]:
    """Yield the controls of a mode by their keys; both modes share the length limit, each model has its own keys."""
    for control in (control for control in mode_controls(card, mode, texts) if control.is_shown):
        yield f"{mode}-{control.name}-{card.name}", control
    length = length_control(card, texts)
    yield f"{length.name}-{card.name}", length
    if card.max_slices is not None:
        slices = slices_control(card, texts)
        yield f"{slices.name}-{card.name}", slices


def _finer_key(card: ModelCard) -> str:
    return f"finer-detail-{card.name}"


def _thinking_key(card: ModelCard) -> str:
    return f"thinking-{card.name}"


def _widget(control: Control, key: str, texts: Texts) -> None:
    st.session_state.setdefault(key, _default(control))
    common: dict[str, Any] = {"help": control.help, "key": key, "persist_state": "session"}
    if control.default is None:
        st.text_input(control.label, placeholder=texts.chance, **common)
        return
    limit, number = control.limit, _number(control)
    st.slider(control.label, number(limit.low), number(limit.high), step=number(limit.step), **common)


def _default(control: Control) -> Any:
    return "" if control.default is None else _number(control)(control.default)


def _number(control: Control) -> type[int] | type[float]:
    """Return the type of a control's numbers: Streamlit requires a single one for each slider."""
    return int if control.limit.whole else float
