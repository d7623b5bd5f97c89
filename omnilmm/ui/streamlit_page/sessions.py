"""Ownership of Streamlit's sessions: everything in a session belongs to its visitor alone.

Streamlit itself accepts the id of a session, which is in the path of every upload, as sufficient proof, serves a
picture to anybody who knows its address, and executes any message of its protocol for any browser. Here a session
belongs to the browser that opened it, identified by a cookie.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import reprlib
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from http.cookies import CookieError, SimpleCookie
from typing import Any

from streamlit import config
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime import Runtime, RuntimeConfig, app_session, websocket_session_manager
from streamlit.runtime.app_session import AppSession, AppSessionState
from streamlit.runtime.media_file_storage import MediaFileKind
from streamlit.runtime.memory_media_file_storage import MemoryFile, MemoryMediaFileStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import RerunData, get_script_run_ctx
from streamlit.runtime.session_manager import SessionInfo, SessionStorage
from streamlit.runtime.state import SessionState
from streamlit.runtime.state.common import unpack_widget_state_value
from streamlit.runtime.websocket_session_manager import WebsocketSessionManager
from streamlit.web.cache_storage_manager_config import create_default_cache_storage_manager

from omnilmm.ui.streamlit_page.runs import WholeRunner
from omnilmm.ui.streamlit_page.visitor import VISITOR

COOKIE = "omnilmm_browser"
# Messages that a browser may send; the rest of the protocol would write files, or change what all visitors share.
MESSAGES = frozenset({"rerun_script", "stop_script", "file_urls_request", "app_heartbeat", "backend_operation_request"})

# Kinds of values that are deserialised as a check; texts of components may be long, and files are looked up.
_PLAIN = frozenset(
    {"bool_value", "double_value", "int_value", "string_value", "double_array_value", "string_array_value"}
)

# Kinds of values that last for one run: of a click, of a question, of an event of a component.
_TRIGGERS = frozenset({"trigger_value", "string_trigger_value", "chat_input_value", "json_trigger_value"})

log = logging.getLogger("omnilmm.page")

_NAME = re.compile(r"[\w-]{16,64}", re.ASCII)
_acting: ContextVar[str] = ContextVar("session that asks for a file", default="")


def browser_in(cookies: str) -> str:
    """Return the browser that a Cookie header identifies; empty if it identifies none."""
    try:
        cookie = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie and _NAME.fullmatch(cookie.value) else ""


class Callbacks:
    """Callbacks for an event loop, which is woken once for all that are added before it runs them.

    Args:
        call_soon: wakes the loop, which then runs the function that it is given; callable from any thread.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_woken = False

    def add(self, callback: Callable[[], None]) -> None:
        """Have a callback run after those before it; callable from any thread."""
        self._waiting.append(callback)
        if not self._is_woken:
            self._wake()

    def _wake(self) -> None:
        self._is_woken = True
        self._call_soon(self.run)

    def run(self) -> None:
        """Run all that were added; called on the event loop."""
        self._is_woken = False  # first: whatever is added from now on may come too late for the loop below
        try:
            while self._waiting:
                self._waiting.popleft()()
        finally:
            if self._waiting:  # one has failed, which the event loop reports
                self._wake()


class OrderedSession(AppSession):
    """Streamlit's session, in which no run of the page discards what the one before it has drawn.

    Streamlit (1.67) ignores what a run has drawn, but not sent yet, as soon as another one has replaced it. If a click
    or the end of an answer draws the whole page while the server is busy, and a fragment's run comes next, e.g. for a
    timer or because past chats are stored, the page stays half as it was. Here everything that a run has drawn is
    sent before the next one starts.

    Attributes:
        browser: the browser that opened it.
    """

    browser = ""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._callbacks = Callbacks(super()._call_soon_on_event_loop)
        super().__init__(*arguments, **more)

    def handle_backmsg(self, msg: BackMsg) -> None:
        """Handle a message of the visitor's browser, if the page has a use for it."""
        if _is_allowed(msg, self.id) and self._is_sound(msg.rerun_script.widget_states):
            if msg.rerun_script.is_auto_rerun:
                _drop_triggers(msg.rerun_script.widget_states)
            context = copy_context()
            context.run(_acting.set, self.id)
            context.run(super().handle_backmsg, msg)

    def shutdown(self) -> None:
        """End the session, with everything in it.

        The loop of Streamlit's runtime (1.67) keeps the session that it served last, and so the visitor, in the
        arguments of widgets and fragments, which clearing the state does not remove.
        """
        is_first = self._state is not AppSessionState.SHUTDOWN_REQUESTED  # else Python's garbage collector calls it
        super().shutdown()
        if is_first and VISITOR in self._session_state:
            self._session_state[VISITOR].leave(self.id)
        self._session_state = SessionState()  # a last run of the page may still read the old one: it is not emptied
        self._fragment_storage.clear()

    def _is_sound(self, given: WidgetStates) -> bool:
        """Return whether every widget has a value of its type; any other would fail every later run of the page."""
        known = self._session_state._new_widget_state.widget_metadata
        for state in given.widgets:
            widget, kind = known.get(state.id), state.WhichOneof("value")
            if widget is None:
                continue  # the page ignores it
            try:
                if kind != widget.value_type:
                    raise TypeError(f"{widget.value_type} expected")
                if kind in _PLAIN:
                    widget.deserializer(unpack_widget_state_value(state))
            except Exception as error:
                log.info("A browser sent a %s for %s: ignored (%s)", kind, reprlib.repr(state.id), error)
                return False
        return True

    def _call_soon_on_event_loop(self, callback: Callable[[], None]) -> None:
        """Wake the event loop once for many elements of a page: each time costs a system call, and Python's lock."""
        self._callbacks.add(callback)

    def _create_scriptrunner(self, initial_rerun_data: RerunData) -> None:
        self._callbacks.run()  # of the run that has ended
        super()._create_scriptrunner(initial_rerun_data)


def _drop_triggers(states: WidgetStates) -> None:
    """Drop clicks from the message of a timer.

    The browser (Streamlit 1.67) sends a click a moment later than it happens, and if a timer comes in between, with the
    timer's message, too: a question would be asked twice.
    """
    kept = [state for state in states.widgets if state.WhichOneof("value") not in _TRIGGERS]
    del states.widgets[:]
    states.widgets.extend(kept)


def _is_allowed(message: BackMsg, session_id: str) -> bool:
    kind = message.WhichOneof("type")
    if kind != "backend_operation_request":
        return kind in MESSAGES
    asked = message.backend_operation_request
    if asked.WhichOneof("payload") != "deferred_file":
        return False
    offered = Runtime.instance().media_file_mgr._deferred_callables.get(asked.deferred_file.file_id)
    return offered is not None and offered["session_id"] == session_id


class Sessions(WebsocketSessionManager):
    """Streamlit's sessions, each of which can be resumed only by the browser that opened it."""

    def connect_session(self, client: Any, *arguments: Any, **more: Any) -> str:
        """See `WebsocketSessionManager`."""
        headers = dict(client.client_context.headers)
        browser = browser_in(headers.get("cookie", ""))
        if more.get("existing_session_id") and not self.is_of(more["existing_session_id"], browser):
            more["existing_session_id"] = None
        session_id: str = super().connect_session(client, *arguments, **more)
        self._active_session_info_by_id[session_id].session.browser = browser  # type: ignore[attr-defined]
        return session_id

    def is_of(self, session_id: str, browser: str) -> bool:
        """Return whether this browser opened the session, which may have lost its connection."""
        info = self.get_active_session_info(session_id) or self._session_storage.get(session_id)
        return info is not None and getattr(info.session, "browser", None) == browser


class Broken(SessionStorage):
    """Sessions that lost their connection: after a while they end, with everything in them.

    Streamlit (1.67) drops such a session only when another visitor connects or leaves, and deletes its uploads and
    pictures only when Python happens to collect it: those of the last visitor stay.

    Args:
        kept_s: how long the browser may reconnect.
    """

    MOST = 128

    def __init__(self, kept_s: float) -> None:
        self.kept_s = kept_s
        self._held: dict[str, SessionInfo] = {}

    def get(self, session_id: str) -> SessionInfo | None:
        """See `SessionStorage`."""
        return self._held.get(session_id)

    def save(self, session_info: SessionInfo) -> None:
        """Keep a session for a while; the oldest end at once if there are too many."""
        self._held[session_info.session.id] = session_info
        asyncio.get_running_loop().call_later(self.kept_s, self._end, session_info)
        while len(self._held) > self.MOST:
            self._end(next(iter(self._held.values())))

    def delete(self, session_id: str) -> None:
        """See `SessionStorage`."""
        self._held.pop(session_id, None)

    def list(self) -> list[SessionInfo]:
        """See `SessionStorage`."""
        return [*self._held.values()]

    def _end(self, info: SessionInfo) -> None:
        session = info.session
        if self._held.get(session.id) is info:  # it has not reconnected
            del self._held[session.id]
            session.shutdown()


class Media(MemoryMediaFileStorage):
    """Files that pages display or offer for download: each belongs to one session.

    Streamlit (1.67) deletes a download when the page is drawn next, which may be before the browser has asked for it:
    here it stays a while.

    Attributes:
        session_of: the session of each file.
    """

    FETCHED_S = 30.0  # within which a browser fetches a download

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.session_of: dict[str, str] = {}
        self._orphans: set[str] = set()

    def load_and_get_id(
        self, path_or_data: str | bytes, mimetype: str, kind: MediaFileKind, filename: str | None = None
    ) -> str:
        """Store a file for the session that shows it; see `MemoryMediaFileStorage`."""
        context = get_script_run_ctx(suppress_warning=True)
        session_id = context.session_id if context else _acting.get()
        data = self._read_file(path_or_data) if isinstance(path_or_data, str) else path_or_data
        about = f"{session_id}\n{mimetype}\n{filename or ''}\n".encode(errors="replace")
        file_id = hashlib.sha256(about + data).hexdigest()
        self.session_of[file_id] = session_id
        self._orphans.discard(file_id)
        self._files_by_id.setdefault(file_id, MemoryFile(data, mimetype, kind, filename))
        return file_id

    def delete_file(self, file_id: str) -> None:
        """Delete a file that is no longer shown."""
        file = self._files_by_id.get(file_id)
        if file is None or file.kind is not MediaFileKind.DOWNLOADABLE:
            self._delete(file_id)
        elif file_id not in self._orphans:
            self._orphans.add(file_id)
            later = threading.Timer(self.FETCHED_S, self._delete_orphan, [file_id])
            later.daemon = True
            later.start()

    def _delete_orphan(self, file_id: str) -> None:
        if file_id in self._orphans:  # it was not offered again
            self._orphans.discard(file_id)
            self._delete(file_id)

    def _delete(self, file_id: str) -> None:
        super().delete_file(file_id)
        self.session_of.pop(file_id, None)


class Uploads(MemoryUploadedFileManager):
    """Uploaded files, until the page has processed them; a session's total is bounded."""

    def held_bytes(self, session_id: str) -> int:
        """Return how many bytes of a session are held here."""
        with self._lock:
            return sum(len(file.data) for file in self.file_storage.get(session_id, {}).values())


def own_runtime(app: Any) -> None:
    """Make a `streamlit.starlette.App` use these classes for sessions, media and uploads: it has no such setting."""

    def create() -> Runtime:
        return Runtime(
            RuntimeConfig(
                script_path=str(app._resolve_script_path()),
                media_file_storage=Media("/media"),
                uploaded_file_manager=Uploads("/_stcore/upload_file"),
                cache_storage_manager=create_default_cache_storage_manager(),
                session_manager_class=Sessions,
                session_storage=Broken(config.get_option("server.disconnectedSessionTTL")),
                on_script_error=app._on_script_error,
            )
        )

    websocket_session_manager.AppSession = OrderedSession  # type: ignore[attr-defined]
    app_session.ScriptRunner = WholeRunner  # type: ignore[attr-defined]
    app._create_runtime = create
