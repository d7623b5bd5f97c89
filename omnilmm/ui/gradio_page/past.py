"""Past chats on the Gradio page: what the browser is given to keep, and what it brings back. See `omnilmm.ui.past`."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.errors import OmniLMMError
from omnilmm.ui.answering import FINALIZE_S
from omnilmm.ui.gradio_page.context import NOT_EDITING, PageContext, Updates
from omnilmm.ui.past import chat_record, names_in, read_opened


class Past:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, context: PageContext) -> None:
        self.context = context

    def send(self, request: gr.Request, has: Any) -> Updates:
        """The conversation for the browser to keep, without the pictures that it has."""
        saved = self.context.visitor(request).session.snapshot
        return {self.context.widgets.record: chat_record(saved.chat, saved.conversation, names_in(has))}

    def open(self, request: gr.Request, given: Any) -> Updates:
        """Go on with a past chat; the one before is given to the browser first, as far as it is."""
        visitor, w = self.context.visitor(request), self.context.widgets
        session = visitor.session
        try:
            opened = read_opened(given)
        except OmniLMMError as error:
            return self.context.render(visitor, notice=session.texts.translate(error))
        session.stop()
        if visitor.answering is not None:
            visitor.answering.done.wait(FINALIZE_S)
        before = session.snapshot
        session.load(opened.conversation, chat=opened.chat)
        self.context.visitors.save(visitor)
        updates = self.context.render(visitor, editing=NOT_EDITING)
        kept_before = {w.previous_record: chat_record(before.chat, before.conversation, opened.has)}
        return updates | kept_before | self.context.system(visitor)
