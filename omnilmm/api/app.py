"""The ASGI application of the API: the `/v1` routes for one engine."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnilmm import __version__
from omnilmm.api.answers import answered
from omnilmm.api.described import Health, ModelList, of_completions
from omnilmm.api.described import responses as described_responses
from omnilmm.api.replies import Reply, error_body, error_of, models, sse
from omnilmm.api.requests import Fetch, question_of
from omnilmm.api.schema import ChatRequest
from omnilmm.engine.events import Engine, Event, Finished, Progress
from omnilmm.errors import OmniLMMError
from omnilmm.images.limits import limits

KEEP_ALIVE_S = 10.0  # proxies close connections that are idle for a minute or so
PICTURES = 2  # number of pictures of the largest size that fit in a request body
COUNTING = Progress("prefill")  # sent before it is known whether the prompt fits the context
IGNORED = "x-ignored-fields"

log = logging.getLogger(__name__)


class _Stream(StreamingResponse):
    """A streaming response whose generator is always closed, even if the connection breaks."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


class Guard:
    """ASGI middleware that refuses requests without the key before their body is read, and bodies that are too large.

    Args:
        app: wrapped application.
        key: key required on every route but `/health`; None if no key is required.
        most_bytes: maximum size of a request body.
    """

    def __init__(self, app: ASGIApp, key: str | None, most_bytes: int) -> None:
        self.app, self.most_bytes = app, most_bytes
        self.expected = f"Bearer {key}".encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        left = self.most_bytes

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"This request is larger than {self.most_bytes / 2**20:.0f} MiB.")
            return message

        if scope["type"] == "http" and not self._has_key(scope):
            message = "Send the server's key as: Authorization: Bearer KEY."
            body = error_body(message, "authentication_error", "invalid_api_key")
            await JSONResponse(body, 401, {"www-authenticate": "Bearer"})(scope, receive, send)
        else:
            await self.app(scope, counted, send)

    def _has_key(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return (
            self.expected is None or scope["path"].endswith("/health") or secrets.compare_digest(given, self.expected)
        )


class Api:
    """Implementation of the routes.

    Args:
        engine: engine that answers; a `ModelProvider` if the model may change.
        fetch: downloads a picture by URL; None if URLs are not fetched.
        most_answers: maximum number of running and queued requests, beyond which they are refused; None for no limit.
    """

    def __init__(self, engine: Engine, fetch: Fetch | None = None, most_answers: int | None = None) -> None:
        self.engine, self.fetch, self.most_answers = engine, fetch, most_answers
        self.created = int(time.time())
        self._answers = 0  # running and queued; counted on the event loop alone, and so without a lock

    async def complete(self, asked: ChatRequest, request: Request) -> Response:
        """Answer a chat completion request, as one JSON body or as a stream."""
        if not self._enter():
            message = f"{self.most_answers} questions are being answered or wait: try again later."
            return JSONResponse(error_body(message, "rate_limit_error", "queue_full"), 429, {"retry-after": "5"})
        reply = Reply(self.engine.card, bool(asked.stream_options and asked.stream_options.include_usage))
        events = self._events(partial(self._begin, asked, owner_of(request)))
        headers = {IGNORED: ", ".join(names)} if (names := asked.ignored()) else {}
        if not asked.stream:
            return await _unless_gone(request, self._whole(events, reply, headers))
        try:
            first = await anext(events)
            while first == COUNTING:
                first = await anext(events)
        except Exception as error:
            await events.aclose()
            return _refused(error)
        chunks = self._chunks(first, events, reply)
        return _Stream(chunks, media_type="text/event-stream", headers={**headers, "cache-control": "no-store"})

    def _begin(self, asked: ChatRequest, owner: str) -> Generator[Event]:
        question = question_of(asked, self.engine.card, owner, self.fetch)
        yield from self.engine.stream(question.conversation, question.options, ("api", question.owner))

    async def _events(self, begin: Any) -> AsyncGenerator[Event]:
        try:
            async with aclosing(answered(begin)) as events:
                async for event in events:
                    yield event
        finally:
            self._answers -= 1

    def _enter(self) -> bool:
        is_free = self.most_answers is None or self._answers < self.most_answers
        self._answers += is_free
        return is_free

    async def _whole(self, events: AsyncGenerator[Event], reply: Reply, headers: dict[str, str]) -> Response:
        async with aclosing(events):
            try:
                last = [event async for event in events if isinstance(event, Finished)][-1]
                return JSONResponse(reply.whole(last), headers=headers)
            except Exception as error:
                return _refused(error)

    async def _chunks(self, first: Event, events: AsyncGenerator[Event], reply: Reply) -> AsyncIterator[bytes]:
        async with aclosing(events):
            yield sse(reply.first())
            said_s = time.monotonic()
            try:
                for chunk in reply.chunks(first):
                    yield sse(chunk)
                async for event in events:
                    for chunk in reply.chunks(event):
                        yield sse(chunk)
                        said_s = time.monotonic()
                    if isinstance(event, Progress) and time.monotonic() - said_s > KEEP_ALIVE_S:
                        yield f": {event.stage}\n\n".encode()
                        said_s = time.monotonic()
            except Exception as error:  # the status line is already sent
                yield sse(_logged(error)[1])
                return
            yield sse("[DONE]")


def application(
    engine: Engine, *, key: str | None = None, fetch: Fetch | None = None, most_answers: int | None = None
) -> FastAPI:
    """Create the API application of an engine, to be mounted or served alone.

    Args:
        engine: engine that answers; a `ModelProvider` if the model may change.
        key: key that clients have to send; None if no key is required.
        fetch: downloads a picture by URL; None if URLs are not fetched.
        most_answers: maximum number of running and queued requests; None for no limit.
    """
    api = Api(engine, fetch, most_answers)
    app = FastAPI(
        title="OmniLMM Chat", version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json"
    )
    # `Guard` checks the key before a body is read; this only documents it in the OpenAPI schema.
    described = [Depends(HTTPBearer(auto_error=False, description="The value of OMNILMM_API_KEY."))] if key else []

    has_key = key is not None
    read = described_responses(ModelList, has_key=has_key)
    asked_for = of_completions(has_key=has_key)

    @app.get("/v1/models", dependencies=described, responses=read, response_model=None)
    async def list_models() -> dict[str, Any]:
        """List the model that is being served."""
        return models(engine.card, api.created)

    @app.post("/v1/chat/completions", dependencies=described, responses=asked_for, response_class=Response)
    async def chat_completions(asked: ChatRequest, request: Request) -> Response:
        """Answer the last message of a conversation."""
        return await api.complete(asked, request)

    @app.get("/health", responses=described_responses(Health, has_key=False), response_model=None)
    async def health() -> dict[str, str]:
        """Report whether the model is loaded."""
        return {"status": "ok" if getattr(engine, "is_ready", True) else "loading"}

    app.add_middleware(Guard, key=key, most_bytes=PICTURES * limits().file_mb * 2**20 * 4 // 3)  # as base64
    app.add_exception_handler(RequestValidationError, _not_of_the_form)
    app.add_exception_handler(HTTPException, _no_such_route)
    return app


def owner_of(request: Request) -> str:
    """Return the owner of a request's caches: the client's address, and its key if there is one."""
    return f"{request.client.host if request.client else ''} {request.headers.get('authorization', '')}"


async def _unless_gone(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """Wait for an answer, but cancel it if the client disconnects."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.create_task(answer), asyncio.create_task(left())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else Response(status_code=499)
    finally:
        answering.cancel()
        leaving.cancel()


def _refused(error: Exception) -> Response:
    status, body = _logged(error)
    return JSONResponse(body, status)


def _logged(error: Exception) -> tuple[int, dict[str, Any]]:
    if not isinstance(error, OmniLMMError):
        log.error("An answer failed", exc_info=error)
    return error_of(error)


async def _not_of_the_form(_: Request, error: Exception) -> Response:
    """Return a 400 response that lists every invalid field and what was expected."""
    wrong = error.errors() if isinstance(error, RequestValidationError) else []
    fields = [".".join(str(place) for place in one["loc"] if place != "body") for one in wrong]
    message = "; ".join(f"{field or 'the body'}: {one['msg']}" for field, one in zip(fields, wrong, strict=True))
    body = error_body(f"{message}.", "invalid_request_error", "invalid_request", fields[0] if fields else None)
    return JSONResponse(body, 400)


async def _no_such_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type only
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "invalid_request")
    return JSONResponse(error_body(error.detail, "invalid_request_error", code), error.status_code, error.headers)
