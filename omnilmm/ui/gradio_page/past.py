"""Past chats on the Gradio page: what the browser is given to keep, and what it brings back. See `omnilmm.ui.past`."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.errors import OmniLMMError
from omnilmm.ui.answering import PUT_AWAY_S
from omnilmm.ui.gradio_page.shared import NOT_EDITING, Painted, Shared
from omnilmm.ui.past import names_in, read_opened, sheet


class Past:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def give(self, request: gr.Request, has: Any) -> Painted:
        """The conversation for the browser to keep, without the pictures that it has."""
        kept = self.shared.visit(request).session.kept
        return {self.shared.widgets.sheet: sheet(kept.chat, kept.conversation, names_in(has))}

    def open(self, request: gr.Request, given: Any) -> Painted:
        """Go on with a past chat; the one before is given to the browser first, as far as it is."""
        visit, w = self.shared.visit(request), self.shared.widgets
        session = visit.session
        try:
            opened = read_opened(given)
        except OmniLMMError as error:
            return self.shared.paint(visit, notice=session.texts.told(error))
        session.stop()
        if visit.answering is not None:
            visit.answering.done.wait(PUT_AWAY_S)
        before = session.kept
        session.take_up(opened.conversation, chat=opened.chat)
        self.shared.visits.keep(visit)
        painted = self.shared.paint(visit, editing=NOT_EDITING)
        kept_before = {w.sheet_before: sheet(before.chat, before.conversation, opened.has)}
        return painted | kept_before | self.shared.system(visit)
