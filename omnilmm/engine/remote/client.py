"""HTTP client for an OpenAI-compatible server: JSON in, chunks of a stream out.

    consumer's thread                     reading thread (an event loop of its own)
    Client.stream() ── starts ──────────> POST /chat/completions
                    <── queue ─────────── chunks, or the error
    closed          ── cancels the task ─> the connection is closed, and the server stops

A blocked read of a socket cannot be interrupted from another thread, but an asyncio task can be cancelled at any point:
while it resolves the name, connects, waits for the headers, or reads.
"""

from __future__ import annotations

import asyncio
import json
import queue
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from omnilmm.engine.events import HEARTBEAT_S
from omnilmm.engine.remote.sse import EventParser, EventTooLongError
from omnilmm.errors import OptionsError
from omnilmm.network import is_this_machine

CONNECT_S = 10.0
LOOK_S = 10.0  # for short requests such as the list of models
SILENCE_S = 600.0  # a long prompt on a slow machine: some servers send nothing until the first token
LEAVE_S = 5.0  # how long closing a stream waits for the connection to be closed
MOST_ERROR_BYTES = 2**16
DONE = "[DONE]"

Chunk = dict[str, Any]
Arrived = tuple[Chunk, float]  # with the time of its arrival, on the monotonic clock


@dataclass(frozen=True)
class Endpoint:
    """The address of a server.

    Attributes:
        url: base URL, usually ending in "/v1", without a slash at the end.
        key: sent as a bearer token; never part of a message or a log.
    """

    url: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, key: str | None = None) -> Endpoint:
        """Create the endpoint of a URL as a user writes it.

        Raises:
            OptionsError: It is no http(s) URL, or the key cannot be sent.
        """
        parts = urlsplit(url.strip())
        try:
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # the port
            is_url = False
        if not is_url:
            raise OptionsError("no_engine_url", given=_without_login(url.strip()))
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
            raise OptionsError("key_unusable")
        return cls(urlunsplit(parts._replace(query="", fragment="")).rstrip("/"), key)

    @property
    def shown(self) -> str:
        """The URL for messages, without user name and password."""
        return _without_login(self.url)

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.shown).netloc

    @property
    def root(self) -> str:
        """The URL without "/v1", where servers have routes of their own."""
        return self.url.removesuffix("/v1")

    @property
    def uses_environment(self) -> bool:
        """Whether proxies of the environment apply: never to a server on this machine, which they could not reach."""
        return not is_this_machine(urlsplit(self.url).hostname or "")

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


def _without_login(url: str) -> str:
    scheme, slashes, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


class RefusedError(Exception):
    """The server answered with an error, as its status or within the stream.

    Attributes:
        status: HTTP status; 0 for an error within a stream that names none.
        body: the parsed JSON body; None if it is not JSON.
        text: the beginning of the body.
        headers: the response headers.
    """

    def __init__(self, status: int, body: Any, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.body, self.text, self.headers = status, body, text, headers or {}


class NotJSONError(Exception):
    """The server answered with something else than JSON, e.g. the HTML page of a proxy."""


class StreamCutError(Exception):
    """The stream ended before the answer was complete."""


class Client:
    """Sends requests to one server; a new connection for each, so answers are independent of each other.

    Args:
        endpoint: the server.
        silence_s: how long a stream may be silent.
        connect_s: how long connecting may take.
    """

    def __init__(self, endpoint: Endpoint, *, silence_s: float = SILENCE_S, connect_s: float = CONNECT_S) -> None:
        self.endpoint = endpoint
        self.timeout = httpx.Timeout(silence_s, connect=connect_s)

    def get(self, url: str, timeout_s: float = LOOK_S) -> tuple[Any, Mapping[str, str]]:
        """Return the JSON of a URL of this server, and the response headers.

        Raises:
            RefusedError, NotJSONError, httpx.HTTPError: The request failed.
        """
        trust_env = self.endpoint.uses_environment
        with httpx.Client(verify=_certificates(), timeout=timeout_s, trust_env=trust_env) as client:
            response = client.get(url, headers=self.endpoint.headers)
        body = _parsed(response.content)
        if response.status_code != 200:
            raise RefusedError(response.status_code, body, response.text[:MOST_ERROR_BYTES], response.headers)
        if body is None:
            raise NotJSONError
        return body, response.headers

    def stream(self, body: Mapping[str, Any]) -> Generator[Arrived | None]:
        """Send a chat completion request and yield its chunks; None while there is none, several times a second.

        A server that answers in one piece yields that one object. Closing the generator closes the connection.

        Raises:
            RefusedError, NotJSONError, StreamCutError, EventTooLongError, httpx.HTTPError: The request failed.
        """
        reading = _Reading(self, body)
        try:
            while True:
                try:
                    item = reading.items.get(timeout=HEARTBEAT_S)
                except queue.Empty:
                    yield None
                    continue
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            reading.close()


class _Reading:
    """One request, on a thread of its own.

    Attributes:
        items: the chunks, then None or the error.
    """

    def __init__(self, client: Client, body: Mapping[str, Any]) -> None:
        self.items: queue.SimpleQueue[Arrived | BaseException | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(_read(client, body, self._arrive))
        self._thread = threading.Thread(target=self._run, name="remote answer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the connection; returns once it is closed."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(LEAVE_S)

    def _arrive(self, chunk: Chunk) -> None:
        self.items.put((chunk, time.monotonic()))

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            self._loop.run_until_complete(self._task)
        except BaseException as error:  # raised again in the consumer
            end = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self.items.put(end)


async def _read(client: Client, body: Mapping[str, Any], tell: Callable[[Chunk], None]) -> None:
    endpoint = client.endpoint
    request = ("POST", f"{endpoint.url}/chat/completions")
    content = json.dumps(body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "accept": "text/event-stream", **endpoint.headers}
    async with (
        httpx.AsyncClient(verify=_certificates(), timeout=client.timeout, trust_env=endpoint.uses_environment) as http,
        http.stream(*request, content=content, headers=headers) as response,
    ):
        if response.status_code != 200:
            text = await _beginning(response)
            raise RefusedError(response.status_code, _parsed(text), text.decode("utf-8", "replace"), response.headers)
        if "text/event-stream" in response.headers.get("content-type", ""):
            await _events(response, tell)
            return
        whole = _parsed(await response.aread())
        if not isinstance(whole, dict):
            raise NotJSONError
        if not _has_choices(_checked(whole)):
            raise _no_answer(whole)
        tell(whole)


async def _events(response: httpx.Response, tell: Callable[[Chunk], None]) -> None:
    """Pass on the chunks up to `[DONE]`, or to the end of a stream whose answer has a finish reason."""
    is_finished = is_done = has_choices = False
    odd: Chunk | None = None
    async with aclosing(_data(response)) as events:
        async for data in events:
            if is_done := data.strip() == DONE:
                break
            chunk = _chunk(data)
            is_finished = is_finished or _finishes(chunk)
            has_choices = has_choices or _has_choices(chunk)
            odd = chunk if not _has_choices(chunk) else odd
            tell(chunk)
    if odd is not None and not has_choices:
        raise _no_answer(odd)
    if not (is_finished or (is_done and has_choices)):
        raise StreamCutError


async def _data(response: httpx.Response) -> AsyncGenerator[str]:
    parser = EventParser()
    async for piece in response.aiter_bytes():
        for data in parser.feed(piece):
            yield data
    for data in parser.finish():
        yield data


def _chunk(data: str) -> Chunk:
    chunk = _parsed(data.encode())
    if not isinstance(chunk, dict):
        raise NotJSONError
    return _checked(chunk)


def _checked(chunk: Chunk) -> Chunk:
    """Raise the error that a chunk carries or is, if any."""
    error = chunk.get("error")
    if error or chunk.get("object") == "error":  # the latter: older versions of vLLM and what copies them
        raise _refused(chunk, error or chunk)
    return chunk


def _no_answer(chunk: Chunk) -> RefusedError | NotJSONError:
    """Return the error for what came instead of any answer; it is quoted if it says why."""
    return _refused(chunk, chunk) if chunk.get("message") or chunk.get("detail") else NotJSONError()


def _refused(chunk: Chunk, error: Any) -> RefusedError:
    code = error.get("code") if isinstance(error, dict) else None
    return RefusedError(code if isinstance(code, int) else 0, chunk)


def _has_choices(chunk: Chunk) -> bool:
    return isinstance(chunk.get("choices"), list)


def _finishes(chunk: Chunk) -> bool:
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices)


async def _beginning(response: httpx.Response) -> bytes:
    text = b""
    async for piece in response.aiter_bytes():
        text += piece
        if len(text) >= MOST_ERROR_BYTES:
            break
    return text[:MOST_ERROR_BYTES]


def _parsed(text: bytes) -> Any:
    """Return parsed JSON; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@cache
def _certificates() -> ssl.SSLContext:
    """Return the certificates, read once: that takes longer than a request."""
    return httpx.create_ssl_context()


__all__ = [
    "Client",
    "Endpoint",
    "EventTooLongError",
    "NotJSONError",
    "RefusedError",
    "StreamCutError",
]
