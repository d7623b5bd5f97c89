"""The page as a whole, drawn for one visitor at every rerun."""

from __future__ import annotations

import streamlit as st

from omnilmm.catalog import ROOT
from omnilmm.engine.events import Engine
from omnilmm.images.formats import UPLOADS, VIDEO_UPLOADS
from omnilmm.images.pixels import open_picture
from omnilmm.ui.markup import plain_markdown
from omnilmm.ui.network import ICON
from omnilmm.ui.samples import Sample, samples
from omnilmm.ui.status import change_line, status
from omnilmm.ui.streamlit_page import messages, past, server_state, sidebar
from omnilmm.ui.streamlit_page.attachments import FILES
from omnilmm.ui.streamlit_page.browser import script, sync_browser_state
from omnilmm.ui.streamlit_page.recorder import recorder
from omnilmm.ui.streamlit_page.runs import redraw
from omnilmm.ui.streamlit_page.visitor import QUESTION, Visitor, reports_errors, visitor

STYLE = ROOT / "assets" / "streamlit.css"
CHANGING_POLL_S, IDLE_POLL_S = 0.5, 3.0  # polling interval for the model's status: during a change, and otherwise


def draw() -> None:
    """Draw the page for the current visitor."""
    state = server_state.state()  # read before anything is drawn, so that a change meanwhile causes a rerun
    me, engine = visitor(), server_state.provider()
    server_state.SERVER.had_visitors = True
    st.set_page_config(page_title=me.texts.title, page_icon=ICON, layout="centered")
    st.html(STYLE)
    me.finalize_turn()
    me.attachments.take_uploads()
    _announce_change(me)
    me.save()
    with st.sidebar:
        sidebar.draw(me, engine)
    with st.container(key="header"):
        st.title(me.texts.title, anchor=False)
        st.fragment(_model_line, run_every=CHANGING_POLL_S if state[1] else IDLE_POLL_S)(me, state)
    if not me.history.messages and me.answering is None:
        st.markdown(me.texts.first_screen(engine.card))
        if engine.card.pictures:
            _samples(me)
    messages.draw(me, engine)
    sync_browser_state(me.browser_state, me.restore)
    past.keep()
    with st.bottom:
        _bottom(me, engine)


def _bottom(me: Visitor, engine: Engine) -> None:
    """Draw what stays in view: notices, the pictures for the next question, Stop, the question box."""
    script(
        me.texts,
        turn=me.turns,
        processed=len(me.attachments.processed),
        refused=me.attachments.refusals,
        on_large=me.attachments.refuse_large,
    )
    notice = me.notice or (me.texts.began_anew if me.starts_new_chat else "")
    for line in filter(None, (notice, me.options_error, me.attachments.refused)):
        st.warning(plain_markdown(line), icon=":material/info:")  # it may contain the name of an upload
    # Files dropped anywhere on the page arrive here at once, through `assets/streamlit.js`; the question box would
    # deliver them only with the question.
    st.file_uploader(me.texts.upload, key=FILES, accept_multiple_files=True)
    _pending(me, engine)
    # Placed explicitly: if Streamlit itself puts it at the bottom, the page jumps to its end when it is opened.
    st.chat_input(
        me.texts.question_placeholder,
        key=QUESTION,
        accept_file="multiple",
        file_type=[*UPLOADS, *VIDEO_UPLOADS],
        on_submit=me.ask,
    )


def _model_line(me: Visitor, drawn: tuple[int, bool]) -> None:
    """Draw the model that answers and the progress of a change of models; a fragment that is rerun by a timer.

    Args:
        me: the visitor.
        drawn: the state of the model for which the rest of the page was drawn.
    """
    provider = server_state.provider()
    if server_state.state() != drawn:
        redraw()  # the whole page, once: the settings and the polling interval have changed
    with st.container(gap="xsmall"):
        for line in filter(None, status(provider, me.texts)):
            st.caption(plain_markdown(line))
    if server_state.SERVER.offer and provider.change and provider.change.can_be_cancelled:
        st.button(me.texts.cancel_change, key="cancel-change", on_click=_cancel)


def _announce_change(me: Visitor) -> None:
    """Announce how a change of models ended, wherever the page is scrolled to."""
    news = server_state.provider().news
    is_new = news is not None and news.is_over and news is not me.news and me.is_drawn
    if is_new and (line := change_line(news, me.texts)):
        st.toast(plain_markdown(line), duration="long")
    me.news, me.is_drawn = news, True


def _cancel() -> None:
    server_state.provider().cancel()


def _samples(me: Visitor) -> None:
    """Draw sample pictures with questions to begin with."""
    with st.container(key="samples", horizontal=True):
        for number, sample in enumerate(samples()):
            with st.container(key=f"sample-{number}", gap="xsmall"):
                st.image(sample.picture, alt="", width="stretch", output_format="PNG")  # else each draw encodes it anew
                question = sample.asked_in(me.texts.code)
                st.button(question, key=f"ask-{number}", width="stretch", on_click=_ask, args=(me, sample))


@reports_errors
def _ask(me: Visitor, sample: Sample) -> None:
    me.ask_in_new_chat(open_picture(sample.picture), sample.asked_in(me.texts.code))


def _pending(me: Visitor, engine: Engine) -> None:
    """Draw a photo from the camera, the pictures for the next question, and Stop."""
    with st.container(key="pending", horizontal=True, gap="small", vertical_alignment="bottom"):
        # In a container of their own, also without any: a new one must not move the popovers. Streamlit would build the
        # camera anew, with its photo but without showing it.
        with st.container(horizontal=True, width="content", gap="small"):
            for number, picture in enumerate(me.attachments.pending):
                with st.container(width="content", gap=None):
                    messages.show_picture(picture, me, 100)
                    with st.container(horizontal=True, gap="small"):
                        messages.seen_button(picture, me, engine, f"pending-seen-{number}")
                        drop = me.attachments.drop
                        st.button("✕", key=f"drop-{number}", type="tertiary", on_click=drop, args=(picture,))
        if engine.card.pictures:
            with st.popover(me.texts.camera, icon=":material/photo_camera:", type="tertiary", key="camera-open"):
                # Without a resolution Streamlit (1.67) asks the camera for the width of the popover, and again a second
                # later, when that is measured: the photo is small, and a click is lost while the camera starts again.
                key = f"camera-{me.turns}"  # a new one for each turn: reopened, it does not show its photo
                st.camera_input(me.texts.take_photo, key=key, resolution="1080p", on_change=_photo, args=(me, key))
        if engine.card.video:  # apart from the photo, which has the camera for itself while its popover is open
            with st.popover(me.texts.clip["record"], icon=":material/videocam:", type="tertiary", key="clip-open"):
                recorder(me.texts)
        if url := server_state.SERVER.live_url:
            live = me.texts.live
            st.link_button(
                live["open"], url, icon=":material/videocam:", type="tertiary", key="live", help=live["elsewhere"]
            )
        if me.answering is not None:
            st.space("stretch")
            st.button(me.texts.stop, icon=":material/stop_circle:", key="stop", on_click=me.stop)


def _photo(me: Visitor, key: str) -> None:
    if taken := st.session_state[key]:
        me.attachments.add(taken)
