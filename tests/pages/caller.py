"""Somebody who speaks to the server of the Gradio page over HTTP alone; nothing of the page is imported here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class Handler:
    """What is behind an event of the page.

    Attributes:
        name: of the function.
        number: of the event.
        defaults: what the page itself would send.
        places: of the chat and of what the browser stores, among the widgets that it renders.
    """

    name: str
    number: int
    defaults: list[Any]
    places: Mapping[str, int] = field(default_factory=dict)


class Caller:
    """A program with a session.

    Args:
        address: of the page.
        handlers: the events of the page.
        session: its name.
        headers: what it says who it is.
    """

    def __init__(self, address: str, handlers: Sequence[Handler], session: str, headers: Mapping[str, str]) -> None:
        self.handlers, self.session = handlers, session
        # Not verified: there is no TLS, and reading the certificates takes longer than a question.
        self.web = httpx.Client(base_url=address, timeout=PATIENCE_S, trust_env=False, headers=headers, verify=False)  # noqa: S501

    def leave(self) -> None:
        """Close the connections."""
        self.web.close()

    @contextmanager
    def present(self) -> Iterator[None]:
        """While the tab is open."""
        with self.web.stream("GET", f"/gradio_api/heartbeat/{self.session}") as stream:
            lines = stream.iter_lines()  # held: the connection goes with it
            next(lines)
            yield

    def upload(self, name: str, content: bytes) -> httpx.Response:
        return self.web.post("/gradio_api/upload", files={"files": (name, content)})

    def handler(self, name: str) -> Handler:
        """The first event whose handler's name begins so."""
        return next(handler for handler in self.handlers if handler.name.startswith(name))

    def number(self, handler: str) -> int:
        """Of an event, by the name of its handler."""
        return self.handler(handler).number

    def defaults(self, handler: str) -> list[Any]:
        """What the page itself would send."""
        return list(self.handler(handler).defaults)

    def join(self, handler: str, data: list[Any] | str, **more: Any) -> httpx.Response:
        """Ask for an event; `data` may be JSON as it is sent."""
        body = json.dumps({"fn_index": self.number(handler), "session_hash": self.session, "data": "DATA", **more})
        said = data if isinstance(data, str) else json.dumps(data)
        headers = {"content-type": "application/json"}
        return self.web.post("/gradio_api/queue/join", content=body.replace('"DATA"', said), headers=headers)

    def outcome(self) -> dict[str, Any]:
        """How the event that was asked for ended; `heard`: all that came of it."""
        self.heard = ""
        with self.web.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                self.heard += line
                if message.get("msg") == "process_completed":
                    return message
        raise AssertionError("the stream ended without an outcome")

    def ask(self, text: str, *paths: str) -> httpx.Response:
        """A question with files."""
        files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
        data = self.defaults("Answers.ask")
        return self.join("Answers.ask", [{"text": text, "files": files}, *data[1:]])
