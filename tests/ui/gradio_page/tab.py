"""An open tab of the Gradio page without server and browser: its handlers are called as Gradio calls them."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from omnilmm.conversation import Picture
from omnilmm.engine.events import Engine
from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.gradio_page.uploads import HEADER
from omnilmm.ui.gradio_page.visitors import Visitor
from omnilmm.ui.session import Session

Updates = dict[Any, Any]


def answers_with(page: Page, engine: Engine) -> None:
    """From now on this engine answers."""
    page.context.provider = ModelProvider.holding(engine)


class Tab:
    """One tab.

    Args:
        page: which is open in it.
        user: who signed in.
        language: that its browser prefers.
        browser_state: what the browser has stored of it.
    """

    def __init__(self, page: Page, *, user: str = "", language: str = "en", browser_state: str = "") -> None:
        self.page, self.w = page, page.widgets
        headers = {HEADER: secrets.token_hex(20), "accept-language": language}
        self.request: Any = SimpleNamespace(session_hash=secrets.token_hex(8), username=user or None, headers=headers)
        self.loaded = page.on_load(self.request, browser_state, "")

    @property
    def visitor(self) -> Visitor:
        return self.page.context.visitor(self.request)

    @property
    def session(self) -> Session:
        return self.visitor.session

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.session.conversation.messages]

    def upload(self, path: Path) -> str:
        """A file of this tab's own."""
        with path.open("rb") as content:
            return str(self.page.context.uploads.save(self.visitor.owner, path.name, content))

    def settings(self, **changed: Any) -> list[Any]:
        """What the settings of the page say, those named changed."""
        named = [("system", self.w.system), ("mode", self.w.mode), ("thinking", self.w.thinking)]
        named += [("finer_detail", self.w.finer_detail)]
        named += [(name, one) for _, name, one in self.w.controls]
        return [changed.get(name, widget.value) for name, widget in named]

    def ask(
        self, text: str, *files: str, editing: int = -1, shown: int = 0, state: str = "", **how: Any
    ) -> list[Updates]:
        """Everything that the page is told of a question until it is answered."""
        box = {"text": text, "files": list(files)}
        return list(self.page.answers.ask(self.request, box, editing, shown, state, *self.settings(**how)))


def notice_of(page: Page, updates: Updates) -> str:
    """The notice among updates."""
    return str(updates[page.widgets.notice])


def boxed(page: Page, updates: Updates) -> Any:
    """What comes into the question box; None where it keeps what it has."""
    return updates.get(page.widgets.box, {}).get("value")


def said(page: Page, updates: Updates) -> list[str]:
    """The bubbles of the chat."""
    return [bubble["content"] for bubble in updates[page.widgets.chat]["value"]]


def given(updates: Updates, widget: Any, name: str) -> Any:
    """What an update says about one property of a widget."""
    return updates[widget][name]


def red(width: int = 6, height: int = 4) -> Picture:
    """A picture."""
    from PIL import Image

    return Picture(Image.new("RGB", (width, height), "red"))
