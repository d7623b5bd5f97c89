"""A hub on this machine: as much of the API of huggingface.co as fetching a model takes, and its ways to fail.

Answers have the form of the real hub's (model info with `blobs=true`, `/resolve/` with ranges, `X-Error-Code`); large
files are redirected to another origin, as the hub does with its storage.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

ENDLESS = 64 << 20


@dataclass(frozen=True)
class Request:
    """What somebody asked for."""

    path: str
    range: str | None
    token: str | None


@dataclass
class LocalHub:
    """One repository, whose state a test changes as it likes.

    Attributes:
        files: content by name; `*.safetensors` and `*.bin` are large ones with a SHA-256.
        commit: what "main" stands for.
        cut_at: no file is sent beyond this byte, the connection is closed there; by name.
        endless: names of files after whose end it goes on sending, up to ENDLESS bytes.
        spoilt: names of files that are sent with another content of the same size.
        gated, ranges, portal: files want a licence to be accepted; ranges are known; every answer is a web page.
        refusal: status, code and message with which it answers who asks about the model.
        busy: so many requests are answered with 503 first.
        requests: for files, in their order.
        surplus: bytes that were sent after the end of files.
        elsewhere: paths that have nothing to do with fetching a model.
        others: further repositories at the same address.
    """

    files: dict[str, bytes]
    source: str = "owner/model"
    commit: str = "1" * 40
    cut_at: dict[str, int] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)
    gated: bool = False
    ranges: bool = True
    portal: bool = False
    refusal: tuple[int, str, str] | None = None
    busy: int = 0
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    surplus: int = 0
    elsewhere: list[str] = field(default_factory=list)
    others: tuple[LocalHub, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> set[str]:
        """Names of the files that somebody asked for."""
        return {request.path.rsplit("/", 1)[-1] for request in self.requests}

    def ranges_of(self, name: str) -> list[str | None]:
        """From where a file was asked for, at its storage."""
        return [request.range for request in self.requests if request.path.endswith(f"/storage/{name}")]

    def info(self) -> dict[str, Any]:
        """What the hub says about the model."""
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
            | (
                {"lfs": {"sha256": _sha256(content), "size": len(content), "pointerSize": 130}}
                if is_large(name)
                else {}
            )
            for name, content in self.files.items()
        ]
        return {"id": self.source, "sha": self.commit, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        """The same as the hub's own library asks for it."""
        return [
            {"type": "file", "path": name, "size": len(content), "oid": _git_sha1(content)}
            | ({"lfs": {"oid": _sha256(content), "size": len(content), "pointerSize": 130}} if is_large(name) else {})
            for name, content in self.files.items()
        ]


def digest(name: str, content: bytes) -> str:
    """What the hub calls a content."""
    return _sha256(content) if is_large(name) else _git_sha1(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".gguf"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart, and the second would wait
    serves: LocalHub
    hub: LocalHub  # the repository that this request is about

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = next((other for other in self.serves.others if f"/{other.source}/" in path), self.serves)
        self.hub = hub
        if hub.portal:
            self.answer(200, b"<html>Please log in to this WLAN</html>")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            if hub.refusal:
                self.fail(*hub.refusal)
            elif self.known(*found.groups()):
                self.answer(200, json.dumps(hub.info()).encode())
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if self.known(*found.groups()):
                self.answer(200, json.dumps(hub.tree()).encode())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.note(path)
            if self.known(found[1], found[2]):
                self.resolve(found[3])
        elif found := re.fullmatch(r"(?:/[^/]+/[^/]+)?/storage/([^/]+)", path):
            self.note(path)
            self.send_file(found[1])
        else:
            self.serves.elsewhere.append(path)
            self.fail(404, "")

    def do_HEAD(self) -> None:
        self.do_GET()

    def note(self, path: str) -> None:
        self.hub.requests.append(Request(path, self.headers.get("Range"), self.headers.get("Authorization")))

    def known(self, source: str, revision: str) -> bool:
        if source != self.hub.source:
            self.fail(404, "RepoNotFound")
        elif revision not in ("main", self.hub.commit):
            self.fail(404, "RevisionNotFound")
        return source == self.hub.source and revision in ("main", self.hub.commit)

    def resolve(self, name: str) -> None:
        if self.hub.busy > 0:
            self.hub.busy -= 1
            self.fail(503, "")
        elif self.hub.gated:
            self.fail(403, "GatedRepo")
        elif name not in self.hub.files:
            self.fail(404, "EntryNotFound")
        elif is_large(name):
            # Another origin: what is meant for the hub alone may not come along.
            linked = {
                "X-Linked-Etag": f'"{_sha256(self.hub.files[name])}"',
                "X-Linked-Size": str(len(self.hub.files[name])),
            }
            at = "" if self.hub is self.serves else f"/{self.hub.source}"
            location = f"http://localhost:{self.serves.port}{at}/storage/{name}"
            target = {"Location": location, "X-Repo-Commit": self.hub.commit}
            self.answer(302, b"", linked | target)
        else:
            self.send_file(name)

    def send_file(self, name: str) -> None:
        content = self.hub.files[name]
        if name in self.hub.spoilt:
            content = bytes(byte ^ 1 for byte in content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        begin = int(wanted[1]) if wanted and self.hub.ranges else 0
        end = min(self.hub.cut_at.get(name, len(content)), len(content))
        self.send_response(206 if wanted and self.hub.ranges else 200)
        if wanted and self.hub.ranges:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin + ENDLESS * (name in self.hub.endless)))
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("ETag", f'"{digest(name, self.hub.files[name])}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[begin:end])
        while name in self.hub.endless and self.hub.surplus < ENDLESS:
            self.hub.surplus += self.wfile.write(bytes(1 << 20))
        self.close_connection = end < len(content)

    def fail(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.answer(status, b"{}", {name: value for name, value in headers.items() if value})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


@contextmanager
def serving(hub: LocalHub) -> Iterator[LocalHub]:
    """Let it listen on a free port of this machine."""
    handler = type("Handler", (_Handler,), {"serves": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
