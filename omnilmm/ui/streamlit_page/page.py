"""The page as a whole, drawn for one visitor at every click."""

from __future__ import annotations

import streamlit as st

from omnilmm.catalog import ROOT
from omnilmm.engine.events import Engine
from omnilmm.engine.starting import StartingEngine
from omnilmm.images.formats import UPLOADS
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import Sample, samples
from omnilmm.ui.server import ICON
from omnilmm.ui.streamlit_page import beside, engines, talk
from omnilmm.ui.streamlit_page.browser import memory, script
from omnilmm.ui.streamlit_page.visitor import FILES, QUESTION, Visitor, visitor

STYLE = ROOT / "assets" / "streamlit.css"
TICK_S = 0.5


def draw() -> None:
    """Draw the page for whoever looks at it."""
    me, engine = visitor(), engines.engine()
    st.set_page_config(page_title=me.texts.title, page_icon=ICON, layout="centered")
    st.html(STYLE)
    me.settle()
    me.keep()
    with st.sidebar:
        beside.draw(me, engine)
    with st.container(key="header"):
        st.title(me.texts.title, anchor=False)
        st.fragment(_model_line, run_every=None if engines.is_settled(engine) else TICK_S)(me, engine)
    if not me.history.messages and me.answering is None:
        st.markdown(me.texts.empty_chat)
        _samples(me)
    talk.draw(me, engine)
    memory(me.memory, me.come_back)
    with st.bottom:
        _bottom(me, engine)


def _bottom(me: Visitor, engine: Engine) -> None:
    """What stays in view: what the visitor should know, what goes with the next question, Stop, the question box."""
    script(
        turn=me.turns,
        looked=len(me.looked),
        refused=me.refusals,
        newest=me.texts.newest,
        language=me.texts.code,
        on_large=me.refuse_large,
    )
    for notice in filter(None, (me.notice, me.unfit, me.refused)):
        st.warning(notice, icon=":material/info:")
    # Files from anywhere on the page come here at once, `assets/streamlit.js` brings them; the question box would give
    # them only with the question.
    st.file_uploader(me.texts.upload, key=FILES, accept_multiple_files=True, on_change=lambda: _uploaded(me))
    _pending(me, engine)
    # Placed here by name: where Streamlit itself puts it at the bottom, the page jumps to its end when it is opened.
    st.chat_input(
        me.texts.question_placeholder,
        key=QUESTION,
        accept_file="multiple",
        file_type=[*UPLOADS],
        on_submit=me.ask,
    )


def _model_line(me: Visitor, engine: Engine) -> None:
    """Which model answers, or how far it is."""
    if isinstance(engine, StartingEngine) and not engine.is_ready:
        st.caption(me.texts.starting_line(engine.card, engine.progress, engine.failure))
    else:
        st.caption(me.texts.model_line(engine))


def _samples(me: Visitor) -> None:
    """Pictures with questions to begin with."""
    with st.container(key="samples", horizontal=True):
        for number, sample in enumerate(samples()):
            with st.container(key=f"sample-{number}", gap="xsmall"):
                st.image(sample.picture, alt="", width="stretch")
                question = sample.asked_in(me.texts.code)
                st.button(question, key=f"ask-{number}", width="stretch", on_click=_ask, args=(me, sample))


def _ask(me: Visitor, sample: Sample) -> None:
    me.ask_this(open_picture(sample.picture), sample.asked_in(me.texts.code))


def _pending(me: Visitor, engine: Engine) -> None:
    """A photo from the camera, the pictures that go with the next question, and Stop."""
    with st.container(key="pending", horizontal=True, gap="small", vertical_alignment="bottom"):
        for number, picture in enumerate(me.pending):
            with st.container(width="content", gap=None):
                talk.show_picture(picture, me, 100)
                with st.container(horizontal=True, gap="small"):
                    talk.seen_button(picture, me, engine, f"pending-seen-{number}")
                    st.button("✕", key=f"drop-{number}", type="tertiary", on_click=me.drop, args=(picture,))
        with st.popover(me.texts.camera, icon=":material/photo_camera:", type="tertiary", key="camera-open"):
            st.camera_input(me.texts.take_photo, key="camera", on_change=lambda: _photo(me))
        if me.answering is not None:
            st.space("stretch")
            st.button(me.texts.stop, icon=":material/stop_circle:", key="stop", on_click=me.stop)


def _uploaded(me: Visitor) -> None:
    me.take_uploads()


def _photo(me: Visitor) -> None:
    if taken := st.session_state.camera:
        me.add(taken)
