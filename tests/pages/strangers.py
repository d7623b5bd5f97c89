"""Somebody who speaks to the server of the Gradio page without the page, and is known to the test."""

from __future__ import annotations

import secrets

from omnilmm.ui.gradio_page.uploads import HEADER
from tests.pages.caller import Caller, Handler
from tests.pages.visitor import Site


class Stranger(Caller):
    """A program with a name as a browser makes one up, and a session.

    Args:
        site: the page.
        named: whether it says who it is.
    """

    def __init__(self, site: Site, *, named: bool = True) -> None:
        self.site = site
        headers = {HEADER: secrets.token_hex(20)} if named else {}
        super().__init__(site.address, handlers(site), secrets.token_hex(6), headers)
        site.page.visitors.get(self.session).is_restored.set()  # nothing is waited for


def handlers(site: Site) -> list[Handler]:
    """The events of a page, for somebody who has nothing but its address."""
    seen = {"chat": site.page.widgets.chat, "browser_state": site.page.widgets.browser_state}
    return [
        Handler(
            event.fn.__qualname__,
            number,
            [widget.value for widget in event.inputs],
            {name: event.outputs.index(widget) for name, widget in seen.items() if widget in event.outputs},
        )
        for number, event in site.page.demo.fns.items()
        if hasattr(event.fn, "__qualname__")
    ]
