"""Routes of the Gradio page's server: what each requires, and our own in place of some of Gradio's.

A route that is not in the table is closed, so that a new version of Gradio opens none by itself; `tests/pages` checks
it.
"""

from __future__ import annotations

import itertools
import json
import mimetypes
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from omnilmm.errors import InputError
from omnilmm.sentences import Sentence
from omnilmm.ui import refusals
from omnilmm.ui.access import address_of
from omnilmm.ui.attempts import Attempts, wait_line
from omnilmm.ui.gradio_page.uploads import Uploads, owner_of
from omnilmm.ui.samples import samples
from omnilmm.ui.texts import texts_for

API = "/gradio_api"
LIVE = "/live"
MOST_FILES = 100  # limit per upload request
MOST_LOGIN_BYTES = 2**16
MOST_EVENT_BYTES = 256 * 2**20  # a past chat is sent back with all its pictures


class Need(Enum):
    """What a request requires."""

    NOTHING = "nothing: it is needed to show the page where one signs in"
    ACCOUNT = "a login, where the page asks for one"
    VISITOR = "a login, and the name that the visitor's browser made up; it reaches that visitor's files alone"
    EVENT = "a login, and arguments of the kinds that the handler takes"
    CLOSED = "nobody gets there: the page does without it"


ROUTES: Mapping[str, Need] = {
    **dict.fromkeys(
        (
            "/",
            "/login",
            "/login/",
            "/logout",
            "/theme.css",
            "/favicon.ico",
            "/robots.txt",
            "/manifest.json",
            "/pwa_icon",
            "/pwa_icon/{size}",
            "/static/{path:path}",
            "/assets/{path:path}",
            "/svelte/{path:path}",
            f"{API}/startup-events",  # requested by Gradio itself at startup
        ),
        Need.NOTHING,
    ),
    **dict.fromkeys(
        (
            "/config",
            "/config/",
            f"{API}/info",
            f"{API}/info/",
            f"{API}/user",
            f"{API}/user/",
            f"{API}/login_check",
            f"{API}/login_check/",
            f"{API}/app_id",
            f"{API}/app_id/",
            f"{API}/heartbeat/{{session_hash}}",
            f"{API}/queue/data",
            f"{API}/queue/status",
            f"{API}/cancel",
            f"{API}/reset",
            f"{API}/reset/",
            f"{API}/theme.css",
        ),
        Need.ACCOUNT,
    ),
    **dict.fromkeys((f"{API}/upload", f"{API}/file={{path_or_url:path}}"), Need.VISITOR),
    **dict.fromkeys((f"{API}/queue/join", f"{API}/run/{{api_name}}", f"{API}/run/{{api_name}}/"), Need.EVENT),
    **dict.fromkeys(
        (
            "/openapi.json",
            "/monitoring",
            "/monitoring/summary",
            "/monitoring/{key}",
            f"{API}/api/{{api_name}}",
            f"{API}/api/{{api_name}}/",
            f"{API}/call/{{api_name}}",
            f"{API}/call/{{api_name}}/",
            f"{API}/call/{{api_name}}/{{event_id}}",
            f"{API}/call/v2/{{api_name}}",
            f"{API}/call/v2/{{api_name}}/",
            f"{API}/call/v2/{{api_name}}/{{event_id}}",
            f"{API}/component_server",
            f"{API}/component_server/",
            f"{API}/custom_component/{{id}}/{{environment}}/{{type}}/{{file_name}}",
            f"{API}/deep_link",
            f"{API}/dev/reload",
            f"{API}/file/{{path:path}}",
            f"{API}/openapi.json",
            f"{API}/process_recording",
            f"{API}/proxy={{url_path:path}}",
            f"{API}/run-history/buckets",
            f"{API}/run-history/connect",
            f"{API}/run-history/records",
            f"{API}/run-history/records/{{endpoint}}/{{record_id}}/assets/{{asset_id}}",
            f"{API}/runs",
            f"{API}/runs/",
            f"{API}/stream/{{event_id}}",
            f"{API}/stream/{{event_id}}/close",
            f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist-file",
            f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist.m3u8",
            f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/{{segment_id}}.{{ext}}",
            f"{API}/token",
            f"{API}/token/",
            f"{API}/undo-vibe-edit",
            f"{API}/undo-vibe-edit/",
            f"{API}/upload_progress",
            f"{API}/vibe-code",
            f"{API}/vibe-code/",
            f"{API}/vibe-edit",
            f"{API}/vibe-edit/",
            f"{API}/vibe-starter-queries",
            f"{API}/vibe-starter-queries/",
        ),
        Need.CLOSED,
    ),
}
WEBSOCKETS = frozenset({LIVE})  # each needs what Need.VISITOR says; Gradio itself uses none
_OPEN = [(compile_path(path)[0], need) for path, need in ROUTES.items() if need is not Need.CLOSED]

_HEARTBEAT = re.compile(rf"{API}/heartbeat/([\w-]{{1,64}})")
_CLOSES = b'data: {"msg":"close_stream"'  # the last message of a stream, as Gradio writes it
_STREAM = "X-OmniLMM-Stream"  # the number of a stream
_CLOSED = "X-OmniLMM-Closed"  # the number of the stream that was closed last


def need_of(path: str) -> Need:
    """Return what a request for this path requires."""
    return next((need for pattern, need in _OPEN if pattern.match(path)), Need.CLOSED)


class Servable(Protocol):
    """The page that is served: `page.Page`.

    Attributes:
        demo: its widgets, a `gradio.Blocks`.
        events: validates the events for its handlers.
        context: holds its uploads.
        visitors: the open tabs.
        live: the live views; None without them.
    """

    demo: Any
    events: Any
    context: Any
    visitors: Any
    live: Any

    async def left(self, key: str) -> None:
        """Handle a connection of a tab that has ended."""


class Gate:
    """ASGI middleware that passes only the routes of the table to Gradio, and only events with validated arguments.

    It also closes the tabs that have gone, and keeps the events of a tab from getting lost between two streams.

    Args:
        app: Gradio's application.
        page: validates the events; its visitors are present while their heartbeats are connected.
    """

    def __init__(self, app: ASGIApp, page: Servable) -> None:
        self.app, self.page, self.attempts = app, page, Attempts()
        self._numbers = itertools.count(time.time_ns() // 1000)  # of streams; they also grow over a restart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" and not self._may_connect(scope):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        elif response := await self._refusal(scope, receive):
            await response(scope, receive, send)
        else:
            await self._pass(scope, scope.pop("omnilmm.receive", receive), send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "GET" and (found := _HEARTBEAT.fullmatch(path)):
            try:
                with self.page.visitors.present(found[1]):
                    await self.app(scope, receive, send)
            finally:  # not left to Gradio's own event, which depends on where its handler is when the tab is closed
                await self.page.left(found[1])
        elif path == f"{API}/queue/data":
            await self.app(scope, receive, self._numbering(scope, send))
        elif path == f"{API}/queue/join":
            await self.app(scope, receive, self._telling(scope, send))
        else:
            await self.app(scope, receive, send)

    def _numbering(self, scope: Scope, send: Send) -> Send:
        """Number a stream of a tab's events, and note that it was closed."""
        session, number = QueryParams(scope["query_string"]).get("session_hash", ""), next(self._numbers)

        async def numbering(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[_STREAM] = str(number)
            elif message.get("body", b"").startswith(_CLOSES):
                self.page.visitors.get(session).closed_stream = number
            await send(message)

        return numbering

    def _telling(self, scope: Scope, send: Send) -> Send:
        """Tell the page with the receipt of an event which stream was closed before: its script waits for that.

        Gradio's script expects the outcome of an event on the stream that is open. The server closes that when nothing
        is pending; if the receipt of the next event overtook this, the page would not be told its outcome.
        """
        session = scope.get("omnilmm.session", "")

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and session:
                MutableHeaders(scope=message)[_CLOSED] = str(self.page.visitors.get(session).closed_stream)
            await send(message)

        return telling

    def _may_connect(self, scope: Scope) -> bool:
        """Return whether a websocket may be opened: `/live` alone, after the login, by a browser with a name."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return path in WEBSOCKETS and _is_signed_in(scope) and bool(owner_of(Headers(scope=scope)))

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        path, headers = scope["path"].removeprefix(scope.get("root_path", "")), Headers(scope=scope)
        need = need_of(path or "/")
        if need is Need.CLOSED:
            return refusals.plain(headers, Sentence("no_such_page"), 404)
        if need is not Need.NOTHING and not _is_signed_in(scope):
            return refusals.as_json(headers, Sentence("sign_in_first"), 401, auth_message=None)
        if path.rstrip("/") == "/login" and scope["method"] == "POST":
            try:
                return await self._sign_in(scope, receive)
            except (InputError, ClientDisconnect) as error:
                return refusals.as_json(headers, error, 413)
        if need is not Need.EVENT or scope["method"] != "POST":
            return None
        try:
            body = await _body(Request(scope, receive))
            event = await run_in_threadpool(self.page.events.check, body, owner_of(headers))
        except InputError as error:
            return refusals.as_json(headers, error, 422, error=refusals.line(headers, error))
        except ClientDisconnect:
            return Response(status_code=400)
        _replace_body(scope, receive, json.dumps(event).encode())
        scope["omnilmm.session"] = str(event.get("session_hash") or "")
        return None

    async def _sign_in(self, scope: Scope, receive: Receive) -> Response | None:
        """Refuse a rate-limited login attempt; any other is left to Gradio to check, and its outcome is counted."""
        body = await _body(Request(scope, receive), MOST_LOGIN_BYTES)
        _replace_body(scope, receive, body)
        pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pieces.pop()

        try:
            async with Request(dict(scope), replay).form() as form:
                name, password = str(form.get("username", "")).strip(), str(form.get("password", ""))
        except Exception:  # not a form: Gradio reports that
            return None
        accounts = scope["app"].auth
        address = address_of(scope)
        if wait_s := self.attempts.wait_s(address, name):
            detail = wait_line(wait_s, Headers(scope=scope).get("accept-language"))
            return JSONResponse({"detail": detail}, 429, {"retry-after": str(int(wait_s) + 1)})
        known = (accounts or {}).get(name)
        is_right = known is not None and secrets.compare_digest(known.encode(), password.encode())
        (self.attempts.succeeded if is_right else self.attempts.failed)(address, name)
        return None


async def _body(request: Request, most_bytes: int = MOST_EVENT_BYTES) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise InputError("request_too_large", most=most_bytes / 2**20)
    return bytes(body)


def _replace_body(scope: Scope, receive: Receive, body: bytes) -> None:
    """Make the application read this body in place of the received one."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
    scope["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
    pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pieces.pop() if pieces else await receive()

    scope["omnilmm.receive"] = replay


def _is_signed_in(scope: Scope) -> bool:
    """Return whether Gradio's own login accepted this browser; true if there is no login."""
    app = scope["app"]
    cookies = HTTPConnection(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return app.auth is None or any(app.tokens.get(cookies.get(name)) is not None for name in names)


# --- our own routes, in place of Gradio's -----------------------------------------------------------------------------


def own_routes(
    uploads: Uploads, most_bytes: int, live: Callable[[WebSocket], Awaitable[None]] | None = None
) -> list[BaseRoute]:
    """Return the routes for uploads, their files, and the live view.

    Args:
        uploads: the uploads of all visitors.
        most_bytes: limit for one file.
        live: serves the websocket of a live view; None if there are none.
    """

    async def upload(request: Request) -> Response:
        return await _upload(request, uploads, most_bytes)

    async def file(request: Request) -> Response:
        return _file(request.path_params["path"], request.headers, uploads)

    return [
        Route(f"{API}/upload", upload, methods=["POST"]),
        Route(f"{API}/file={{path:path}}", file, methods=["GET", "HEAD"]),
        *([WebSocketRoute(LIVE, live)] if live else []),
    ]


def _file(given: str, headers: Headers, uploads: Uploads) -> Response:
    """Serve a sample picture, or one of the visitor's own uploads."""
    shown = {str(sample.picture) for sample in samples()}
    try:
        path = given if given in shown else str(uploads.file(owner_of(headers), given))
    except (InputError, OSError, ValueError):
        return refusals.plain(headers, Sentence("not_your_upload"), 403)
    kind, _ = mimetypes.guess_type(path)
    is_picture = kind is not None and kind.startswith("image/") and "svg" not in kind
    how = {"media_type": kind} if is_picture else {"media_type": "application/octet-stream", "filename": "upload"}
    safe = {"x-content-type-options": "nosniff", "cache-control": "private"}
    return FileResponse(path, headers=safe, **how)


class _Bounded(MultiPartParser):
    """Parses a form with files and limits their size.

    Attributes:
        most_bytes: limit for one file.
        room: limit in bytes for all files together.
        full, large: the error messages if they exceed it, or one file its own.
    """

    most_bytes = room = 0
    full = large = ""

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._left = self.most_bytes

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is not None:
            self._left -= end - start
            self.room -= end - start
            if self._left < 0:
                raise MultiPartException(self.large)
            if self.room < 0:
                raise MultiPartException(self.full)
        super().on_part_data(data, start, end)


async def _upload(request: Request, uploads: Uploads, most_bytes: int) -> Response:
    headers, owner = request.headers, owner_of(request.headers)
    if not owner:
        return refusals.plain(headers, Sentence("upload_of_nobody"), 403)
    if not headers.get("content-type", "").startswith("multipart/form-data"):
        return refusals.plain(headers, Sentence("upload_form"), 400)
    parser = _Bounded(request.headers, request.stream(), max_files=MOST_FILES, max_fields=MOST_FILES)
    parser.most_bytes, parser.room = most_bytes, await run_in_threadpool(uploads.room, owner)
    texts = texts_for(headers.get("accept-language"))
    parser.full = texts.uploads_full.format(most=uploads.most_bytes >> 20)
    parser.large = refusals.line(headers, Sentence("upload_too_large", most=most_bytes / 2**20))
    try:
        form = await parser.parse()
        files = [given for given in form.getlist("files") if isinstance(given, UploadFile)]
        saved = [await run_in_threadpool(uploads.save, owner, given.filename or "", given.file) for given in files]
    except MultiPartException as error:
        return PlainTextResponse(error.message, status_code=413 if parser.room < 0 or parser._left < 0 else 400)
    except ClientDisconnect:
        return Response(status_code=400)
    except OSError as error:
        return refusals.plain(headers, Sentence("no_room_on_server", reason=error.strerror or error), 507)
    finally:
        for temporary in parser._files_to_close_on_error:  # all files of the form, whatever happened to them
            temporary.close()
    request.app.get_blocks().upload_file_set.update(map(str, saved))  # deleted after a while if they are never sent
    return JSONResponse([str(path) for path in saved])
