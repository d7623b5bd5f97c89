"""Routes of the Streamlit page's server, and what each requires.

A route that is not in the table is closed, so that a new version of Streamlit opens none by itself;
`tests/streamlit_pages` checks it. With `--auth`, `access.Guard` protects all of them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, MutableMapping
from enum import Enum
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.runtime import Runtime

from omnilmm.sentences import Sentence
from omnilmm.ui import refusals
from omnilmm.ui.streamlit_page import server_state
from omnilmm.ui.streamlit_page.sessions import COOKIE, Media, Sessions, Uploads, browser_in
from omnilmm.ui.texts import texts_for


class Need(Enum):
    """What a request requires, besides a login where one is configured."""

    NOTHING = "nothing more: it tells nothing of anybody"
    SESSION = "nothing more; what it asks for reaches its own session alone"
    OWNER = "the cookie of the browser that opened the session it names"
    CLOSED = "nobody gets there: the page does without it"


ROUTES: Mapping[str, Need] = {
    **dict.fromkeys(
        (
            "/",
            "/index.html",
            "/favicon.png",
            "/manifest.json",
            "/static/{path:path}",
            "/_stcore/health",
            "/_stcore/host-config",
        ),
        Need.NOTHING,
    ),
    "/_stcore/stream": Need.SESSION,
    "/_stcore/upload_file/{session_id}/{file_id}": Need.OWNER,
    "/media/{file_id:path}": Need.OWNER,
    **dict.fromkeys(
        (
            "/_stcore/metrics",
            "/_stcore/script-health-check",
            "/_stcore/bidi-components/{path:path}",  # for components with files of their own: ours have none
            "/_stcore/agent/interact",
            "/_stcore/agent/openapi.json",
            "/_stcore/agent/mcp",
            "/component/{path:path}",
            "/app/static/{path:path}",
            "/auth/login",  # Streamlit's own login, through an identity provider
            "/auth/logout",
            "/oauth2callback",
        ),
        Need.CLOSED,
    ),
}
_OPEN = [(compile_path(path)[0], need) for path, need in ROUTES.items() if need is not Need.CLOSED]


def need_of(path: str) -> tuple[Need, dict[str, str]]:
    """Return what a request for this path requires, and the parameters in the path."""
    for pattern, need in _OPEN:
        if found := pattern.match(path):
            return need, found.groupdict()
    return Need.CLOSED, {}


class Gate:
    """ASGI middleware that passes only the routes of the table to Streamlit, and gives each browser a cookie.

    Args:
        app: Streamlit's application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        base = f"/{config.get_option('server.baseUrlPath').strip('/')}".rstrip("/")
        path = scope["path"].removeprefix(base) or "/"
        need, named = need_of(path)
        headers = Headers(scope=scope)
        browser = browser_in(headers.get("cookie", ""))
        if scope["type"] == "websocket":
            await (self.app if need is Need.SESSION else _close)(scope, receive, send)
        elif refusal := self._refusal(need, named, headers, browser, scope["method"]):
            await refusal(scope, receive, send)
        elif scope["method"] == "PUT":
            await self._put(scope, receive, send)
        else:
            await self.app(scope, receive, send if browser or path != "/" else _with_cookie(send))

    async def _put(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an upload; Streamlit writes a large one to a temporary file, for which the disk may be full."""
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            return
        except OSError as error:
            refusal = refusals.plain(
                Headers(scope=scope), Sentence("no_room_on_server", reason=error.strerror or error), 507
            )
            await refusal(scope, receive, send)

    def _refusal(
        self, need: Need, named: Mapping[str, str], headers: Headers, browser: str, method: str
    ) -> Response | None:
        if need in (Need.CLOSED, Need.SESSION):
            return refusals.plain(headers, Sentence("no_such_page"), 404)
        if need is Need.NOTHING or method == "OPTIONS":
            return None
        runtime = Runtime.instance()
        manager, media = runtime._session_mgr, runtime.media_file_mgr._storage
        if not isinstance(manager, Sessions) or not isinstance(media, Media):
            raise TypeError("The page is served without its own kinds of sessions: see sessions.own_runtime.")
        session_id = named.get("session_id") or media.session_of.get(os.path.splitext(named["file_id"])[0], "")
        if not manager.is_of(session_id, browser):
            return refusals.plain(headers, Sentence("not_your_session"), 404)
        return self._over_quota(session_id, headers) if method == "PUT" else None

    def _over_quota(self, session_id: str, headers: Headers) -> Response | None:
        quota = server_state.SERVER.quota_bytes
        uploads = Runtime.instance().uploaded_file_mgr
        held = uploads.held_bytes(session_id) if isinstance(uploads, Uploads) else 0
        length = headers.get("content-length", "")
        most = int(config.get_option("server.maxUploadSize")) * 2**20
        if held + (int(length) if length.isdecimal() else most) <= quota:
            return None
        texts = texts_for(headers.get("accept-language"))
        return PlainTextResponse(texts.uploads_full.format(most=quota >> 20) + "\n", 413)


async def _close(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # `websocket.connect` has to be received before the connection can be refused
    await send({"type": "websocket.close", "code": 1008})


def _with_cookie(send: Send) -> Send:
    """Set the cookie of a browser that has none; an embedded page may not accept it, and does without."""
    cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Lax"

    async def send_with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            named: MutableMapping[str, Any] = {**message}
            named["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
            message = named
        await send(message)

    return send_with_cookie
