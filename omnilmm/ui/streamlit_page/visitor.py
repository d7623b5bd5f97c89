"""One visitor of the Streamlit page: the session, the running answer, and the pictures for the next question.

It lives in Streamlit's session state and is changed only by callbacks, which run once for each click; a rerun of the
page, for whatever reason, only reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from weakref import WeakValueDictionary

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from omnilmm.archive import read_conversation
from omnilmm.conversation import Conversation, Part
from omnilmm.engine.change import Change
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Options
from omnilmm.errors import OmniLMMError
from omnilmm.ui.answering import FINALIZE_S, Answering, queue_refusal
from omnilmm.ui.draft import Draft
from omnilmm.ui.past import chat_record, names_in, read_opened
from omnilmm.ui.samples import is_sample
from omnilmm.ui.session import Session
from omnilmm.ui.session_store import BrowserState, SessionStore
from omnilmm.ui.streamlit_page import server_state, settings
from omnilmm.ui.streamlit_page.attachments import Attachments, error_line
from omnilmm.ui.texts import Texts, texts_for

QUESTION = "question"  # key of the question box
LANGUAGE = "language"  # key of the language selector
SYSTEM = "system"  # key of the system prompt
VISITOR = "visitor"  # key of the visitor

SESSION_STORE = SessionStore()

log = logging.getLogger("omnilmm.page")

P = ParamSpec("P")


def reports_errors(act: Callable[Concatenate[Visitor, P], None]) -> Callable[Concatenate[Visitor, P], None]:
    """Wrap a callback that may fail: the visitor gets a notice, and the question returns to the question box."""

    @wraps(act)
    def wrapped(me: Visitor, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            act(me, *args, **kwargs)
        except Exception as error:
            me.fail(error)

    return wrapped


class Visitor:
    """The state of one open page.

    Attributes:
        session: the visitor's session.
        answering: the newest turn; None once the page has taken over its outcome.
        attachments: the pictures and videos for the next question.
        editing: number of the question that is being edited; None for none.
        notice: what the visitor should know about the last turn.
        options_error: why the settings are invalid; cleared when they are corrected.
        turns: number of turns begun or restored here, each of which should scroll into view.
        news: the change of models that was last announced to the visitor.
        is_drawn: whether the page was drawn before.
        record: the record for the browser to store, sent once; see `past.chat_record`.
        is_replaced: whether the conversation was replaced, so that the page has to be redrawn.
        token: key of the stored session; empty until the browser has answered.
    """

    def __init__(self) -> None:
        self.session = Session()
        self.answering: Answering | None = None
        self.attachments = Attachments(self.session)
        self.editing: int | None = None
        self.notice, self.options_error = "", ""
        self.turns = 0
        self.news: Change | None = None
        self.is_drawn = False
        self.record: dict[str, Any] | None = None
        self.is_replaced = False
        self.token = ""
        self.page = ""  # the open page that shows it
        self._asked: tuple[Part, ...] = ()  # returns to the question box if there is no answer

    @property
    def texts(self) -> Texts:
        """The texts in the visitor's language."""
        return self.session.texts

    @property
    def history(self) -> Conversation:
        """The turns to show above the running answer."""
        draft = self.draft
        return draft.history if draft else self.session.conversation

    @property
    def draft(self) -> Draft | None:
        """The draft of the running answer; None if there is none."""
        running = self.answering
        return running.draft if running and running.outcome == "generating" else None

    @property
    def starts_new_chat(self) -> bool:
        """Whether the visitor should be told that a new chat has begun."""
        return self.draft.starts_new_chat if self.draft else self.session.reopens

    # --- callbacks ----------------------------------------------------------------------------------------------------

    @reports_errors
    def ask(self) -> None:
        """Answer the question in the box, with the pending pictures."""
        given, engine = st.session_state[QUESTION], server_state.provider()
        self._asked = (given.text,)
        are_pictures = self.attachments.take_uploads() and (not given.files or self.attachments.add(*given.files))
        asked: tuple[Part, ...] = (*self.attachments.pending, given.text)
        self._asked, self.attachments.pending = asked, []
        options = self._options(engine)
        if options is None or not are_pictures:
            self._restore_question()
            return
        self._start(lambda: self.session.ask(engine, asked, options), asked)

    @reports_errors
    def ask_this(self, *parts: Part) -> None:
        """Answer a question that is not from the question box, which keeps its content."""
        self._answer(lambda engine, options: self.session.ask(engine, parts, options))

    @reports_errors
    def ask_in_new_chat(self, *parts: Part) -> None:
        """Answer a question that is not from the box in a new chat."""
        self._answer(lambda engine, options: self.session.ask_in_new_chat(engine, parts, options))

    @reports_errors
    def regenerate(self) -> None:
        """Regenerate the last answer."""
        self._answer(self.session.regenerate)

    @reports_errors
    def edit(self, number: int, text: str) -> None:
        """Replace the text of a question and answer it, about the same pictures."""
        pictures = self.session.conversation.messages[number].shown
        self._answer(lambda engine, options: self.session.edit(engine, number, (*pictures, text), options))

    @reports_errors
    def continue_(self) -> None:
        """Ask the model to continue an answer that was cut off."""
        self.ask_this(self.texts.continue_question)

    def start_edit(self, number: int | None) -> None:
        """Show a question as an editable text field; None for no question."""
        self.editing = number

    @reports_errors
    def undo(self) -> None:
        """Undo the last turn; its question returns to the box, but not a sample's if the chat before it is reopened."""
        reopens = self.session.reopens
        try:
            question = self.session.undo()
            self._asked = () if reopens and is_sample(question) else question.parts
        except OmniLMMError as error:
            self.notice = self.texts.translate(error)
        self._restore_question()

    def stop(self) -> None:
        """Stop the running answer and keep its text."""
        self.session.stop()

    @reports_errors
    def clear(self) -> None:
        """Clear the conversation."""
        self.session.clear()
        self.attachments.clear()
        self.editing, self.answering, self._asked, self.notice = None, None, (), ""

    def fail(self, error: Exception) -> None:
        """Report the error of a callback, and restore the question."""
        self.notice = error_line(self.texts, error)
        self._restore_question()

    @reports_errors
    def load(self, file: Any) -> None:
        """Continue a conversation from a file."""
        try:
            self.session.load(read_conversation(file.getvalue()))
        except OmniLMMError as error:
            self.notice = self.texts.translate(error)
        else:
            self.notice, self.editing, self.turns = self.texts.imported, None, self.turns + 1

    def send_record(self, has: object) -> None:
        """Send the conversation to the browser for storage, without the pictures that it already has."""
        saved = self.session.snapshot
        self.record = chat_record(saved.chat, saved.conversation, names_in(has))

    @reports_errors
    def open_past(self, given: object) -> None:
        """Continue a past chat; the current one, as far as it is answered, is first sent to the browser for storage."""
        self.is_replaced, self.notice, self.editing = True, "", None
        try:
            opened = read_opened(given)
        except OmniLMMError as error:
            self.notice = self.texts.translate(error)
            return
        self.stop()
        if self.answering is not None:
            self.answering.done.wait(FINALIZE_S)
        self.finalize_turn()
        self.send_record(list(opened.has))
        self.session.load(opened.conversation, chat=opened.chat)
        self.turns += 1
        st.session_state[SYSTEM] = opened.conversation.system or ""

    def restore(self, remembered: BrowserState) -> None:
        """Restore the session of this browser.

        Args:
            remembered: what the browser stored for this tab.
        """
        if self.token:
            return
        token = remembered.token
        before = _VISITORS.get(token)
        is_elsewhere = before is not None and before.is_watched()  # a tab that was duplicated
        self.token = token if token and not is_elsewhere else SESSION_STORE.new_token()
        if remembered.language:
            st.session_state[LANGUAGE] = remembered.language
        current = self
        if self.session.conversation.messages or self.answering:
            pass  # it already has another conversation
        elif before is not None and not is_elsewhere:
            before.page, current = self.page, before  # with its state when the page was closed
            before.stop()
            self.turns += 1
        elif saved := SESSION_STORE.get(token):
            self.turns += 1
            self.session.load(saved.conversation, saved.notes, saved.chat, saved.earlier)
        elif remembered.messages:
            self.turns += 1
            self.session.load(remembered.conversation(self.texts.picture_lost), chat=remembered.text_only_chat)
            self.notice = self.texts.restored_text
        st.session_state[VISITOR] = _VISITORS[current.token] = current

    # --- before the page is drawn -------------------------------------------------------------------------------------

    def finalize_turn(self) -> None:
        """Take over the outcome of the last turn, once it has ended."""
        ended = self.answering
        if ended is None or not ended.done.is_set():
            return
        self.answering, self.notice = None, ended.notice
        if ended.outcome in ("failed", "cancelled"):
            self._restore_question()
        self._asked = ()

    def save(self) -> None:
        """Store the session, so that a reload can restore it."""
        if self.token:
            SESSION_STORE.save(self.token, self.session.snapshot)

    @property
    def browser_state(self) -> BrowserState:
        """The state that the browser should store."""
        saved = self.session.snapshot
        return BrowserState.of(self.token, st.session_state.get(LANGUAGE) or "", saved.conversation, saved.chat)

    def leave(self, page: str) -> None:
        """Stop the answer, and free what the model caches, once a page has ended, unless another one is shown by now.

        The conversation is stored for a reload; see `save`.
        """
        if self.page == page:
            self.session.leave()

    def is_corrected(self, engine: Engine) -> bool:
        """Return whether invalid settings have been corrected; if so, the error is cleared."""
        return bool(self.options_error) and self._options(engine) is not None

    def is_watched(self) -> bool:
        """Return whether the page that shows it is open; callable from any thread."""
        return Runtime.exists() and Runtime.instance().is_active_session(self.page)

    def _answer(self, drafts: Callable[[Engine, Options], Iterator[Draft]]) -> None:
        engine = server_state.provider()
        if options := self._options(engine):
            self._start(lambda: drafts(engine, options))

    def _options(self, engine: Engine) -> Options | None:
        """Return the chosen options; None if they are invalid, which is reported."""
        try:
            options = settings.options(engine.card)
        except OmniLMMError as error:
            self.options_error = self.texts.translate(error)
            return None
        self.options_error = ""
        return options

    def chosen(self, engine: Engine) -> Options | None:
        """Return the chosen options; None if they are invalid."""
        try:
            return settings.options(engine.card)
        except OmniLMMError:
            return None

    def _start(self, drafts: Callable[[], Iterator[Draft]], asked: tuple[Part, ...] = ()) -> None:
        """Begin a turn; `asked` returns to the question box if there is no answer."""
        self._asked = asked
        sessions = [other.session for other in _visitors()]
        if refusal := queue_refusal(self.session, sessions, server_state.SERVER.max_answers):
            self.notice = refusal
            self._restore_question()
            return
        self.notice, self.attachments.refused, self.editing = "", "", None
        self.turns += 1
        self.answering = Answering(self.session, drafts, self.is_watched, restores_question=bool(asked))

    def _restore_question(self) -> None:
        self.attachments.put_back([part for part in self._asked if not isinstance(part, str)])
        if text := "\n".join(part for part in self._asked if isinstance(part, str)):
            st.session_state[QUESTION] = text
        self._asked = ()


_VISITORS: WeakValueDictionary[str, Visitor] = WeakValueDictionary()


def visitor() -> Visitor:
    """Return the visitor whose page is being drawn, with texts in the language of their choice or browser."""
    if VISITOR not in st.session_state:
        st.session_state[VISITOR] = Visitor()
    me: Visitor = st.session_state[VISITOR]
    context = get_script_run_ctx()
    me.page = context.session_id if context else ""
    me.session.texts = texts_for(st.session_state.get(LANGUAGE) or st.context.locale)
    return me


def busy_count() -> int:
    """Return how many visitors are being answered."""
    return sum(someone.session.busy for someone in _visitors())


def _visitors() -> list[Visitor]:
    """Return all visitors; iterating over `_VISITORS.values()` fails if another thread adds one meanwhile."""
    return [someone for known in _VISITORS.valuerefs() if (someone := known())]
