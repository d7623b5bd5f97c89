"""One visitor of the Streamlit page: the conversation, the answer that is being given, what waits to be sent.

It lives in Streamlit's session state and is changed by callbacks, which run once for each click; a page that is drawn
again, for whatever reason, only looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from omnilmm.conversation import Conversation, Message, Part, Picture
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Options
from omnilmm.errors import ImageError, OmniLMMError
from omnilmm.images.pixels import open_picture
from omnilmm.ui.answering import Answering
from omnilmm.ui.archive import read_conversation
from omnilmm.ui.keeping import Keeper
from omnilmm.ui.session import Draft, Session
from omnilmm.ui.streamlit_page import side
from omnilmm.ui.texts import Texts, texts_for

QUESTION = "question"  # key of the question box
LANGUAGE = "language"  # key of the choice of the language

KEEPER = Keeper()


class Visitor:
    """The state of one open page.

    Attributes:
        session: the conversation.
        answering: the newest turn; None once the page has taken over what came of it.
        pending: pictures that go with the next question.
        editing: number of the question that is being edited, None for none.
        notice: what the visitor should know now.
        token: under which the conversation is kept; empty until the browser has answered.
    """

    def __init__(self) -> None:
        self.session = Session()
        self.answering: Answering | None = None
        self.pending: list[Picture] = []
        self.editing: int | None = None
        self.notice = ""
        self.token = ""
        self.page = ""  # which open page shows it
        self._asked: tuple[Part, ...] = ()  # comes back into the box if nothing comes of it

    @property
    def texts(self) -> Texts:
        """What to say, in the visitor's language."""
        return self.session.texts

    @property
    def history(self) -> Conversation:
        """The turns to show above the one that is being answered."""
        draft = self.draft
        return draft.history if draft else self.session.conversation

    @property
    def draft(self) -> Draft | None:
        """The turn that is being answered."""
        running = self.answering
        return running.draft if running and running.outcome == "growing" else None

    # --- what a click does --------------------------------------------------------------------------------------------

    def ask(self, engine: Engine) -> None:
        """Answer what is in the question box, with the pictures that wait."""
        given = st.session_state[QUESTION]
        asked: tuple[Part, ...] = (*self.pending, given.text)
        self.pending = []
        try:
            asked = (*asked[:-1], *map(_open, given.files), given.text)
            options = side.options(engine.card)
        except OmniLMMError as error:
            self.notice, self._asked = str(error), asked
            self._give_back()
            return
        self._start(lambda: self.session.ask(engine, asked, options))
        self._asked = asked

    def ask_this(self, engine: Engine, *parts: Part) -> None:
        """Answer a question that is not from the box; what is in the box stays there."""
        self._answer(engine, lambda options: self.session.ask(engine, parts, options))

    def again(self, engine: Engine) -> None:
        """Answer the last question anew."""
        self._answer(engine, lambda options: self.session.again(engine, options))

    def edit(self, engine: Engine, number: int, text: str) -> None:
        """Answer another text in place of a question, about the same pictures."""
        pictures = self.session.conversation.messages[number].pictures
        self._answer(engine, lambda options: self.session.edit(engine, number, (*pictures, text), options))

    def start_edit(self, number: int | None) -> None:
        """Show a question as a text field, or none."""
        self.editing = number

    def undo(self) -> None:
        """Take back the last question; it returns into the box."""
        try:
            self._asked = self.session.undo().parts
        except OmniLMMError as error:
            self.notice = str(error)
        self._give_back()

    def stop(self) -> None:
        """Stop the running answer and keep what it has said."""
        self.session.stop()

    def clear(self) -> None:
        """Start over."""
        self.session.clear()
        self.pending, self.notice, self.editing, self.answering, self._asked = [], "", None, None, ()

    def add(self, *files: Any) -> None:
        """Let pictures wait for the next question; none twice."""
        try:
            self.pending += [picture for picture in map(_open, files) if picture not in self.pending]
        except OmniLMMError as error:
            self.notice = str(error)

    def drop(self, picture: Picture) -> None:
        """Do not send a picture that waits."""
        self.pending = [other for other in self.pending if other != picture]

    def take_up(self, file: Any) -> None:
        """Go on with a conversation from a file."""
        try:
            self.session.take_up(read_conversation(file.getvalue()))
        except OmniLMMError as error:
            self.notice = str(error)
        else:
            self.notice, self.editing = self.texts.imported, None

    def come_back(self, token: str, text: str) -> None:
        """Go on where this browser left off.

        Args:
            token: that it remembers, or nothing.
            text: of its conversation, for when there is no more than that.
        """
        if self.token:
            return
        self.token = token if _is_free(token) else KEEPER.new_token()
        if self.session.conversation.messages or self.answering:
            pass  # already talking about something else
        elif (before := _OPEN.get(token)) and not before.is_watched():
            st.session_state.visitor = before  # with what it was doing when the page went away
            before.page = self.page
        elif kept := KEEPER.get(token):
            self.session.take_up(kept.conversation, kept.notes)
        elif text:
            self._restore(text)
        _OPEN[self.token] = st.session_state.visitor

    def _restore(self, text: str) -> None:
        try:
            self.session.take_up(read_conversation(text))
        except OmniLMMError:
            return  # the browser's storage was tampered with
        self.notice = self.texts.restored_text

    # --- what the page does before it is drawn ------------------------------------------------------------------------

    def settle(self) -> None:
        """Take over what came of the last turn, once it has ended."""
        ended = self.answering
        if ended is None or not ended.done.is_set():
            return
        self.answering, self.notice = None, ended.notice
        if ended.outcome in ("failed", "withdrawn"):
            self._give_back()
        self._asked = ()

    def keep(self) -> None:
        """Keep the conversation for when the page is loaded anew."""
        if self.token:
            KEEPER.keep(self.token, self.session.kept)

    @property
    def text(self) -> str:
        """The conversation without its pictures, for the browser to remember."""
        conversation = self.session.conversation
        messages = tuple(
            Message(message.role, tuple(p if isinstance(p, str) else self.texts.picture_lost for p in message.parts))
            for message in conversation.messages
        )
        return Conversation(messages, conversation.system).to_json() if messages else ""

    def is_watched(self) -> bool:
        """Whether the page that shows it is open; from any thread."""
        return Runtime.exists() and Runtime.instance().is_active_session(self.page)

    def _answer(self, engine: Engine, drafts: Callable[[Options], Iterator[Draft]]) -> None:
        try:
            options = side.options(engine.card)
        except OmniLMMError as error:
            self.notice = str(error)
        else:
            self._start(lambda: drafts(options))

    def _start(self, drafts: Callable[[], Iterator[Draft]]) -> None:
        self.notice, self.editing, self._asked = "", None, ()
        self.answering = Answering(self.session, drafts, self.is_watched)

    def _give_back(self) -> None:
        self.pending = [part for part in self._asked if isinstance(part, Picture)] + self.pending
        if text := "\n".join(part for part in self._asked if isinstance(part, str)):
            st.session_state[QUESTION] = text
        self._asked = ()


_OPEN: WeakValueDictionary[str, Visitor] = WeakValueDictionary()


def visitor() -> Visitor:
    """The visitor whose page is being drawn, spoken to in the language of their browser or choice."""
    if "visitor" not in st.session_state:
        st.session_state.visitor = Visitor()
    me: Visitor = st.session_state.visitor
    context = get_script_run_ctx()
    me.page = context.session_id if context else ""
    me.session.texts = texts_for(st.session_state.get(LANGUAGE) or st.context.locale)
    return me


def _is_free(token: str) -> bool:
    """Whether a token is one that no open page uses: a tab that was duplicated needs its own."""
    before = _OPEN.get(token)
    return bool(token) and (before is None or not before.is_watched())


def _open(file: Any) -> Picture:
    try:
        return open_picture(file.getvalue())
    except ImageError as error:
        raise ImageError(f"{file.name}: {error}") from error
