"""The sidebar: language, settings, system prompt, files, and facts about the model."""

from __future__ import annotations

from functools import partial

import streamlit as st

from omnilmm.archive import to_json
from omnilmm.catalog import ModelCard
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Engine
from omnilmm.errors import OmniLMMError
from omnilmm.ui import model_lines
from omnilmm.ui.markdown_export import to_markdown
from omnilmm.ui.offer import Offer, choosable
from omnilmm.ui.streamlit_page import past, server_state, settings
from omnilmm.ui.streamlit_page.visitor import LANGUAGE, SYSTEM, Visitor
from omnilmm.ui.texts import CODES, texts_in

IMPORT, MODEL, DTYPE, SHOWN = "import", "model", "dtype", "shown-model"  # keys of widgets


def draw(me: Visitor, engine: Engine) -> None:
    """Draw the whole sidebar."""
    st.session_state.setdefault(LANGUAGE, me.texts.code)
    with st.expander(me.texts.settings, expanded=True):
        settings.draw_settings(engine.card, me.texts, partial(me.is_corrected, engine))
        if engine.card.system_prompt:
            st.text_area(
                me.texts.system_prompt,
                key=SYSTEM,
                help=me.texts.system_prompt_help,
                on_change=lambda: me.session.set_system(st.session_state[SYSTEM]),
            )
    with st.expander(me.texts.export):
        _files(me)
    with st.expander(me.texts.past["title"]):
        past.show_list(me.texts)
    with st.expander(me.texts.model):
        _models(me, engine)
        st.markdown(me.texts.about(engine.card))
    names = {code: texts_in(code).language for code in CODES}
    st.radio(me.texts.language_label, CODES, format_func=lambda code: names[code], key=LANGUAGE, horizontal=True)


def _models(me: Visitor, engine: Engine) -> None:
    """Draw the choice of another model, if visitors may choose one, and a button for the best that fits."""
    provider, offer = server_state.provider(), server_state.SERVER.offer
    if offer is None:
        return
    listed, current = offer.models(provider), engine.card.name
    known = choosable(listed, engine.card)
    if st.session_state.get(SHOWN) != (state := server_state.state()):  # the picker shows the choice, whoever made it
        request = provider.requested or ModelRequest(current)
        st.session_state[SHOWN], st.session_state[MODEL], st.session_state[DTYPE] = state, request.model, request.dtype
    name = st.selectbox(me.texts.model, [*known], format_func=lambda name: _title(known[name]), key=MODEL)
    if isinstance(entry := known.get(name), ListedModel):
        st.caption(" · ".join(filter(None, (model_lines.size(entry.card), model_lines.facts(entry, me.texts)))))
    dtype = _dtype(me, offer) if offer.has_dtypes else "auto"
    now = ModelRequest(current) if provider.requested is None else provider.requested
    is_same = provider.is_ready and (name, dtype) == (current, now.dtype)
    is_late = is_same or provider.is_changing
    st.button(me.texts.switch, key="switch", disabled=is_late, on_click=_switch_to_choice, args=(me,))
    if better := offer.better(provider):
        label = me.texts.best_model.format(model=better.card.title)
        st.button(label, key="best", on_click=switch, args=(me, better.card.name, "auto"))
        st.caption(model_lines.reason(better, me.texts))


def _dtype(me: Visitor, offer: Offer) -> str:
    """Draw the choice of the dtype, and return it."""
    dtypes = [*dict.fromkeys((*offer.dtypes(server_state.provider()), st.session_state[DTYPE]))]
    automatic = me.texts.automatic
    return st.selectbox(
        me.texts.dtype, dtypes, format_func=lambda dtype: automatic if dtype == "auto" else dtype, key=DTYPE
    )


def _title(entry: ListedModel | ModelCard) -> str:
    return entry.card.title if isinstance(entry, ListedModel) else entry.title


def _switch_to_choice(me: Visitor) -> None:
    """Start the change to what is chosen now; a click may come before the page was drawn with the newest choice."""
    offer = server_state.SERVER.offer
    switch(me, st.session_state[MODEL], st.session_state[DTYPE] if offer and offer.has_dtypes else "auto")


def switch(me: Visitor, name: str, dtype: str) -> None:
    """Start a change of models; the line about the model shows its progress to everybody."""
    provider, offer = server_state.provider(), server_state.SERVER.offer
    if offer is None:
        return
    me.notice = ""
    try:
        provider.switch(name, dtype, offer.fits(provider, name))
    except OmniLMMError as error:
        me.notice = me.texts.translate(error)


def _files(me: Visitor) -> None:
    """Draw the export of the conversation, and the import from a file."""
    conversation, is_empty = me.session.conversation, not me.session.conversation.messages
    st.download_button(
        me.texts.export_json,
        lambda: to_json(conversation, server_state.provider().card.title),  # created on request
        "conversation.json",
        "application/json",
        key="export-json",
        on_click="ignore",
        disabled=is_empty,
        width="stretch",
    )
    st.download_button(
        me.texts.export_markdown,
        lambda: to_markdown(conversation, me.texts, server_state.provider().card.title),
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
        me.load(file)
