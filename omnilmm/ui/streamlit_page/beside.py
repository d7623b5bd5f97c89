"""The column beside the conversation: language, settings, system prompt, files, and what to know about the model."""

from __future__ import annotations

from functools import partial

import streamlit as st

from omnilmm.catalog import BUILT_IN
from omnilmm.engine.choosing import Listed, best_fitting
from omnilmm.engine.events import Engine
from omnilmm.ui.archive import to_markdown
from omnilmm.ui.listing import LANGUAGES_SHOWN, memory
from omnilmm.ui.streamlit_page import engines, side
from omnilmm.ui.streamlit_page.visitor import LANGUAGE, Visitor
from omnilmm.ui.texts import CODES, texts_in

SYSTEM, IMPORT, MODEL = "system", "import", "model"  # keys


def draw(me: Visitor, engine: Engine) -> None:
    """Draw all of it."""
    st.session_state.setdefault(LANGUAGE, me.texts.code)
    with st.expander(me.texts.settings, expanded=True):
        side.draw_settings(engine.card, me.texts, partial(me.is_put_right, engine))
        if engine.card.system_prompt:
            st.text_area(
                me.texts.system_prompt,
                key=SYSTEM,
                help=me.texts.system_prompt_help,
                on_change=lambda: me.session.set_system(st.session_state[SYSTEM]),
            )
    with st.expander(me.texts.export):
        _files(me)
    with st.expander(me.texts.model):
        _models(me, engine)
        st.markdown(me.texts.about(engine.card))
    names = {code: texts_in(code).language for code in CODES}
    st.radio(me.texts.language_label, CODES, format_func=lambda code: names[code], key=LANGUAGE, horizontal=True)


def _models(me: Visitor, engine: Engine) -> None:
    """Another model, where visitors may choose one; the best that fits in one click."""
    listed = {entry.card.name: entry for entry in engines.choices()} if engines.is_settled(engine) else {}
    if not listed:
        return
    current = engine.card.name
    names = [*dict.fromkeys((current, *listed))]  # a folder is in no list
    chosen = st.selectbox(me.texts.model, names, format_func=lambda name: _title(listed.get(name), name), key=MODEL)
    if entry := listed.get(chosen):
        st.caption(_facts(me, entry))
    st.button(me.texts.switch, key="switch", disabled=chosen == current, on_click=_switch, args=(me, chosen))
    best = best_fitting([*listed.values()]) or engine.card
    if current == BUILT_IN != best.name:
        label = me.texts.best_model.format(model=best.title, size=f"{best.download_gib:g} GiB")
        st.button(label, key="best", on_click=_switch, args=(me, best.name))


def _title(entry: Listed | None, name: str) -> str:
    return entry.card.title if entry else name


def _facts(me: Visitor, entry: Listed) -> str:
    """What it takes, whether it fits and is here, its languages and licence."""
    card, texts = entry.card, me.texts
    fits = texts.fits_in.format(dtype=entry.fits) if entry.fits else texts.fits_not
    facts = [fits if card.memory_gib else texts.fits_unknown]
    facts += [f"{memory(card)} GiB"] if card.memory_gib else []
    facts.append(texts.here if entry.is_here else texts.download_size.format(size=f"{card.download_gib:g}"))
    return " · ".join([*facts, ", ".join(card.languages[:LANGUAGES_SHOWN]), card.licence])


def _switch(me: Visitor, name: str) -> None:
    engines.switch(name)
    st.session_state[MODEL] = name
    me.notice = me.texts.switched.format(model=engines.engine().card.title)


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
