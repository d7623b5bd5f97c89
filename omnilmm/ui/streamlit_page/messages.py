"""The conversation: bubbles, the running answer, and the actions on each."""

from __future__ import annotations

from functools import partial

import streamlit as st

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Message, Picture, Thought, Video
from omnilmm.engine.events import Engine
from omnilmm.ui import boxes, drawing
from omnilmm.ui.film_strip import sheet, strip
from omnilmm.ui.markup import SENT_PIXELS, encoded, plain_markdown, with_dollars
from omnilmm.ui.note import Note
from omnilmm.ui.photos import offer_label, offered_for_photos
from omnilmm.ui.safe_markdown import safe_markdown, safe_with_chips, spaced_math
from omnilmm.ui.streamlit_page import server_state, sidebar
from omnilmm.ui.streamlit_page.browser import copy_button
from omnilmm.ui.streamlit_page.runs import redraw
from omnilmm.ui.streamlit_page.visitor import Visitor, busy_count
from omnilmm.ui.video_figure import seen_frames, video_line

# How often a page polls its running answer; with many, each does less often, as each poll is a run on its own thread.
POLL_S, MOST_POLL_S, POLLS_PER_S = 0.15, 1.0, 25
PICTURE_PIXELS, MARKED_PIXELS = 240, 420
AVATARS = {"user": ":material/person:", "assistant": ":material/visibility:"}
CHIPS = ("orange", "blue", "green", "violet", "yellow", "primary")  # close to boxes.COLOURS


def draw(me: Visitor, engine: Engine) -> None:
    """Draw the whole conversation, the running answer, and the actions on them."""
    history = me.history
    for number, message in enumerate(history.messages):
        if me.editing == number:
            _edit_form(me, number, message)
        elif message.role == "user":
            _question(me, engine, message, number)
        else:
            pictures = [picture for before in history.messages[:number] for picture in before.pictures]
            note = me.session.notes[number // 2]
            if note and note.is_photo:
                _photo_line(me, number, offered_for_photos(server_state.SERVER.offer, server_state.provider()))
            _answer(me, message, number, note, pictures)
    is_running = me.answering is not None
    every_s = min(max(POLL_S, busy_count() / POLLS_PER_S), MOST_POLL_S) if is_running else None
    st.fragment(_running_answer, run_every=every_s)(me, engine, len(history.messages))
    if history.messages and not is_running:
        _actions(me)


def _running_answer(me: Visitor, engine: Engine, number: int) -> None:
    """Draw the newest turn: a fragment that is rerun until the answer has ended."""
    running = me.answering
    if running is None:
        return
    if running.done.is_set():
        redraw()  # the whole page, once: the turn is part of the history now
    if draft := running.draft:
        if len(draft.history.messages) != number:
            redraw()  # an earlier question is answered again: the turns after it leave the page
        _question(me, engine, draft.question, number, is_partial=True)
        if draft.is_photo:
            _photo_line(me, number + 1)
        answer = Message("assistant", (draft.text,), draft.thought)
        _answer(me, answer, number + 1, draft.note, [], is_partial=True)


def _question(me: Visitor, engine: Engine, message: Message, number: int, *, is_partial: bool = False) -> None:
    with _bubble(message.role, number):
        if message.shown:
            with st.container(horizontal=True, key=f"pictures-{number}"):
                for picture in message.shown:
                    show_picture(picture, me, PICTURE_PIXELS)
        st.markdown(plain_markdown(message.text))
        with st.container(horizontal=True, gap="small", key=f"tools-{number}"):
            if is_partial:  # takes the place of later actions, so that nothing moves when the answer is there
                st.button(me.texts.edit, key="edit-later", type="tertiary", disabled=True)
                return
            st.button(me.texts.edit, key=f"edit-{number}", type="tertiary", on_click=me.start_edit, args=(number,))
            for count, picture in enumerate(message.shown):
                seen_button(picture, me, engine, f"seen-{number}-{count}")


def _answer(
    me: Visitor, message: Message, number: int, note: Note | None, pictures: list[Picture], *, is_partial: bool = False
) -> None:
    text = message.text
    with _bubble("assistant", number):
        if message.thought:
            _fold(me, message.thought, number, is_partial=is_partial)
        st.markdown(safe_with_chips(with_dollars(spaced_math(text)), _chip, is_partial=is_partial))
        marked = boxes.regions(text)
        if marked and pictures:
            with st.container(key=f"boxes-{number}", width=MARKED_PIXELS):
                marks = drawing.with_regions(pictures[-1].image, marked)
                marks.thumbnail((SENT_PIXELS, SENT_PIXELS))
                st.image(marks, me.texts.boxes_on_picture, width="stretch", alt=me.texts.boxes_on_picture)
        if line := me.texts.note(note):
            with st.container(key=f"note-{number}"):
                st.caption(plain_markdown(line))
        if not is_partial:
            copy_button(text, me.texts.copy_answer, f"copy-{number}")


def _fold(me: Visitor, thought: Thought, number: int, *, is_partial: bool) -> None:
    """Draw a thought: open while it is streamed, then closed."""
    is_open = is_partial and not thought.is_closed
    with st.container(key=f"thought-{number}"):
        label = plain_markdown(me.texts.thought_line(thought, is_partial=is_partial))
        with st.expander(label, expanded=is_open, icon=":material/psychology:"):
            st.markdown(safe_markdown(with_dollars(spaced_math(thought.text))))


def _photo_line(me: Visitor, number: int, offer: ModelCard | None = None) -> None:
    """Draw the line above an answer about a photo by a model that knows drawings only."""
    with st.container(key=f"photo-line-{number}", gap="small"):
        st.warning(me.texts.looks_like_photo, icon=":material/photo_camera:")
        if offer:
            switch = partial(sidebar.switch, me, offer.name, "auto")
            st.button(offer_label(offer, me.texts), key=f"offer-{number}", on_click=switch)


def _bubble(role: str, number: int) -> st.delta_generator.DeltaGenerator:
    with st.container(key=f"message-{number}"):
        return st.chat_message(role, avatar=AVATARS[role])


def _edit_form(me: Visitor, number: int, message: Message) -> None:
    key = f"edited-{number}"

    def send() -> None:
        me.edit(number, st.session_state[key])

    with _bubble(message.role, number):
        st.text_area(me.texts.edit, message.text, key=key, label_visibility="collapsed")
        with st.container(horizontal=True, key="edit-form"):
            st.button(me.texts.save, key="edit-save", type="primary", on_click=send)
            st.button(me.texts.cancel, key="edit-cancel", on_click=me.start_edit, args=(None,))


def _actions(me: Visitor) -> None:
    with st.container(key="actions", horizontal=True, gap="small"):
        if me.session.can_continue:
            st.button(
                me.texts.continue_answer,
                key="continue-answer",
                icon=":material/play_arrow:",
                type="tertiary",
                on_click=me.continue_,
            )
        for key, label, icon, act in (
            ("regenerate", me.texts.regenerate, "refresh", me.regenerate),
            ("undo", me.texts.undo, "undo", me.undo),
            ("clear", me.texts.clear, "add_comment", me.clear),
        ):
            st.button(label, key=key, icon=f":material/{icon}:", type="tertiary", on_click=act)


def show_picture(picture: Picture | Video, me: Visitor, pixels: int) -> None:
    """Draw a thumbnail, whose button shows the picture at full size; of a video, a few frames with their times."""
    if isinstance(picture, Video):
        shown_frames, name = sheet(picture), me.texts.video_name(picture)
        with st.container(width=min(2 * pixels, shown_frames.width)):
            st.image(shown_frames, name if pixels >= PICTURE_PIXELS else None, width="stretch", alt=name)
        return
    width, height = picture.image.size
    shown = min(pixels, width, max(1, pixels * width // height))
    with st.container(width=shown):  # an image with its own width would stay that small at full size
        st.image(encoded(picture), width="stretch", alt=me.texts.picture_name(width, height))


def seen_button(picture: Picture | Video, me: Visitor, engine: Engine, key: str) -> None:
    """Draw a button that shows how the model sees a picture."""
    if st.button(me.texts.seen, key=key, type="tertiary", icon=":material/grid_on:"):
        _show_seen(picture, me, engine)


def _show_seen(picture: Picture | Video, me: Visitor, engine: Engine) -> None:
    @st.dialog(me.texts.seen, width="medium")
    def show() -> None:
        if isinstance(picture, Video):
            _video_seen(picture, me, engine)
            return
        views = engine.slices(picture, me.chosen(engine))
        st.image(drawing.with_slices(picture, views), alt=me.texts.picture_name(*picture.image.size))
        st.caption(me.texts.seen_line(views, is_assumed=engine.card.are_slices_assumed))

    show()


def _video_seen(video: Video, me: Visitor, engine: Engine) -> None:
    card, chosen = engine.card, me.chosen(engine)
    if not card.video:  # another model was chosen meanwhile
        st.caption(me.texts.video_name(video))
        return
    finer = chosen.finer_detail if chosen else None
    st.image(strip(video, seen_frames(video, card, finer)[0]), alt=me.texts.video_name(video))
    st.caption(video_line(video, card, me.texts, finer))


def _chip(name: str, colour: int) -> str:
    return f":{CHIPS[colour]}-badge[{plain_markdown(name)}]"
