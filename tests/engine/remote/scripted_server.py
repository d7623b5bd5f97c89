"""A server that answers each request as the test dictates, byte by byte."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Scripted:
    """What the server sends, and what it was asked.

    Attributes:
        url: its address, ending in "/v1".
        replies: pieces to send for each chat request in turn, the last one also for all further ones; a number is a
            pause in seconds, None cuts the connection.
        models: body of the list of models.
        routes: bodies of other routes.
        bodies: the chat requests.
        headers: the headers of the latest request.
        left: set once a client has closed its connection before the end.
    """

    url: str
    replies: list[list[bytes | float | None]] = field(default_factory=list)
    models: Any = field(default_factory=lambda: {"data": [{"id": "m"}]})
    routes: dict[str, Any] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    left: threading.Event = field(default_factory=threading.Event)


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A running server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Scripted(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=_serve, args=(server, connection), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def greeting(words: bytes) -> Iterator[str]:
    """Host and port of a server that speaks first, whatever its client expects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(words)
                connection.recv(65536)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def _serve(server: Scripted, connection: socket.socket) -> None:
    with connection, suppress(OSError):
        path, body = _request(server, connection)
        if not path.endswith("/chat/completions"):
            found = server.models if path == "/v1/models" else server.routes.get(path)
            connection.sendall(reply(found) if found is not None else reply({"detail": "Not Found"}, 404))
            return
        server.bodies.append(json.loads(body))
        number = min(len(server.bodies), len(server.replies)) - 1
        try:
            _send(server, connection, server.replies[number])
        except ConnectionError:  # what was sent was not read any more
            server.left.set()


def _send(server: Scripted, connection: socket.socket, pieces: list[bytes | float | None]) -> None:
    for piece in pieces:
        if piece is None:  # a reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(piece, bytes):
            connection.sendall(piece)
        elif _has_left(connection, piece):
            server.left.set()
            return


def _request(server: Scripted, connection: socket.socket) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    server.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(server.headers.get("content-length", 0)):
        body += connection.recv(65536)
    return first.split()[1], body


def _has_left(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    finally:
        connection.settimeout(None)


def reply(body: Any, status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """A whole response; a body that is no text is sent as JSON."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n{more}\r\n"
    return head.encode() + content


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def delta(text: str = "", reason: str | None = None, **more: Any) -> bytes:
    """A chunk with text."""
    content = {"content": text} if text else {}
    return event({"choices": [{"index": 0, "delta": content | more, "finish_reason": reason}]})
