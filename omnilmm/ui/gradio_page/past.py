"""Event handlers for past chats on the Gradio page: what the browser stores and sends back. See `omnilmm.ui.past`."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.errors import OmniLMMError
from omnilmm.ui.answering import FINALIZE_S
from omnilmm.ui.gradio_page.context import NOT_EDITING, PageContext, Updates
from omnilmm.ui.past import chat_record, names_in, read_opened


class Past:
    """Event handlers; `page.Page` wires them."""

    def __init__(self, context: PageContext) -> None:
        self.context = context

    def send(self, request: gr.Request, has: Any) -> Updates:
        """Send the conversation to the browser for storage, without the pictures that it already has."""
        saved = self.context.visitor(request).session.snapshot
        return {self.context.widgets.record: chat_record(saved.chat, saved.conversation, names_in(has))}

    def open(self, request: gr.Request, given: Any) -> Updates:
        """Continue a past chat; the current one, as far as it is answered, is sent to the browser for storage."""
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
