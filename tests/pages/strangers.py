"""Somebody who speaks to the server of the Gradio page without the page."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from omnilmm.ui.gradio_page.uploads import HEADER
from tests.pages.visitor import Site

PATIENCE_S = 60.0


class Stranger:
    """A program with a name as a browser makes one up, and a session.

    Args:
        site: the page.
        named: whether it says who it is.
    """

    def __init__(self, site: Site, *, named: bool = True) -> None:
        self.site, self.session = site, secrets.token_hex(6)
        self.web = httpx.Client(base_url=site.address, timeout=PATIENCE_S, trust_env=False)
        if named:
            self.web.headers[HEADER] = secrets.token_hex(20)
        site.page.visitors.get(self.session).is_restored.set()  # nothing is waited for

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

    def number(self, handler: str) -> int:
        """Of an event, by the name of its handler."""
        return next(
            number
            for number, event in self.site.page.demo.fns.items()
            if event.fn and getattr(event.fn, "__qualname__", "").startswith(handler)
        )

    def defaults(self, handler: str) -> list[Any]:
        """What the page itself would send."""
        event = self.site.page.demo.fns[self.number(handler)]
        return [None if (value := widget.value) is None else value for widget in event.inputs]

    def join(self, handler: str, data: list[Any] | str, **more: Any) -> httpx.Response:
        """Ask for an event; `data` may be JSON as it is sent."""
        body = json.dumps({"fn_index": self.number(handler), "session_hash": self.session, "data": "DATA", **more})
        said = data if isinstance(data, str) else json.dumps(data)
        headers = {"content-type": "application/json"}
        return self.web.post("/gradio_api/queue/join", content=body.replace('"DATA"', said), headers=headers)

    def outcome(self) -> dict[str, Any]:
        """How the event that was asked for ended."""
        with self.web.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed":
                    return message
        raise AssertionError("the stream ended without an outcome")

    def ask(self, text: str, *paths: str) -> httpx.Response:
        """A question with files."""
        files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
        data = self.defaults("Answers.ask")
        return self.join("Answers.ask", [{"text": text, "files": files}, *data[1:]])
