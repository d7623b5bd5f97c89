"""The column beside the conversation: language, settings, system prompt, files, and what to know about the model."""

from __future__ import annotations

import streamlit as st

from omnilmm.engine.events import Engine
from omnilmm.ui.archive import to_markdown
from omnilmm.ui.streamlit_page import side
from omnilmm.ui.streamlit_page.visitor import LANGUAGE, Visitor
from omnilmm.ui.texts import CODES, texts_in

SYSTEM, IMPORT = "system", "import"  # keys


def draw(me: Visitor, engine: Engine) -> None:
    """Draw all of it."""
    st.session_state.setdefault(LANGUAGE, me.texts.code)
    with st.expander(me.texts.settings, expanded=True):
        side.draw_settings(engine.card, me.texts)
        if engine.card.system_prompt:
            st.text_area(
                me.texts.system_prompt,
                key=SYSTEM,
                help=me.texts.system_prompt_help,
                on_change=lambda: me.session.set_system(st.session_state[SYSTEM]),
            )
    with st.expander(me.texts.export):
        _files(me)
    with st.expander(me.texts.about_model):
        st.markdown(me.texts.about(engine.card))
    names = {code: texts_in(code).language for code in CODES}
    st.radio(me.texts.language_label, CODES, format_func=lambda code: names[code], key=LANGUAGE, horizontal=True)


def _files(me: Visitor) -> None:
    """The conversation as a file, and from one."""
    conversation, is_empty = me.session.conversation, not me.session.conversation.messages
    st.download_button(
        me.texts.export_json,
        conversation.to_json,  # made when it is asked for
        "conversation.json",
        "application/json",
        key="export-json",
        on_click="ignore",
        disabled=is_empty,
        width="stretch",
    )
    st.download_button(
        me.texts.export_markdown,
        lambda: to_markdown(conversation, me.texts),
        "conversation.md",
        "text/markdown",
        key="export-markdown",
        on_click="ignore",
        disabled=is_empty,
        width="stretch",
    )
    st.file_uploader(me.texts.import_chat, "json", key=IMPORT, on_change=lambda: _import(me))


def _import(me: Visitor) -> None:
    if file := st.session_state[IMPORT]:
        me.take_up(file)
