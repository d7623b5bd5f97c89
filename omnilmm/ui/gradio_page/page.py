"""The Gradio page: its parts and what is rendered when it is opened. Turns are defined in `omnilmm.ui.session`.

Every handler renders the whole state of its session, and what is older is not sent after what is newer: see `Blocks`.
Queueing and fairness are left to the engine: no handler has a limit of its own.
"""

from __future__ import annotations

import asyncio

import gradio as gr

from omnilmm.engine.provider import ModelProvider
from omnilmm.live.talk import Parts
from omnilmm.ui.gradio_page.answers import Answers
from omnilmm.ui.gradio_page.blocks import Blocks
from omnilmm.ui.gradio_page.choices import Choices
from omnilmm.ui.gradio_page.context import PageContext, Updates, merged
from omnilmm.ui.gradio_page.conversations import Conversations
from omnilmm.ui.gradio_page.events import Events
from omnilmm.ui.gradio_page.live import Live
from omnilmm.ui.gradio_page.past import Past
from omnilmm.ui.gradio_page.pictures import Pictures
from omnilmm.ui.gradio_page.serving import UPLOADS_CHECKED_S, UPLOADS_KEPT_S, upload_folder
from omnilmm.ui.gradio_page.uploads import Uploads
from omnilmm.ui.gradio_page.visitors import Visitor, Visitors
from omnilmm.ui.gradio_page.widgets import Widgets
from omnilmm.ui.gradio_page.wiring import Wiring
from omnilmm.ui.offer import Offer
from omnilmm.ui.session_store import SessionStore
from omnilmm.ui.texts import ENGLISH, texts_for


class Page:
    """The page, its handlers, and its visitors.

    Args:
        provider: provides the model that answers.
        offer: the models that visitors can choose from; None if they cannot choose.
        max_answers: how many answers may run or wait at once; None for no limit.
        live: recogniser and voice of the live view; None without one.
    """

    def __init__(
        self,
        provider: ModelProvider,
        offer: Offer | None = None,
        max_answers: int | None = None,
        live: Parts | None = None,
    ) -> None:
        self.visitors = Visitors(SessionStore(), self._forget_widgets)
        uploads = (UPLOADS_CHECKED_S, UPLOADS_KEPT_S)
        with Blocks(title=ENGLISH.title, analytics_enabled=False, delete_cache=uploads) as self.demo:
            self.widgets = Widgets(provider.card, switches=offer is not None, is_live=live is not None)
            self.context = PageContext(
                provider, offer, max_answers, self.visitors, self.widgets, Uploads(upload_folder())
            )
            self.answers, self.conversations = Answers(self.context), Conversations(self.context)
            self.pictures, self.choices = Pictures(self.context), Choices(self.context)
            self.past = Past(self.context)
            self.live = Live(self.context, self.answers, live) if live else None
            Wiring(self)
        self.events = Events(self.demo, self.context.uploads, self.widgets.kinds)

    def on_load(self, request: gr.Request, browser_state: str, language: str) -> Updates:
        """Render a page that was opened or reloaded: in the visitor's language, with the restored conversation."""
        visitor = self.context.visitor(request)
        visitor.session.texts = texts_for(language or request.headers.get("accept-language"))
        notice = self.visitors.restore(visitor, browser_state)
        return merged(self._localized(visitor, notice), self.choices.settings(visitor))

    async def left(self, key: str) -> None:
        """Handle a connection of a tab that has ended: closed or reloaded, unless it has another one.

        Its answer is stopped, and its conversation is kept for a while.
        """
        await asyncio.to_thread(self._close, key)

    def _forget_widgets(self, key: str) -> None:
        """Drop Gradio's own copy of all widgets' values, which a last request of a closed tab creates anew."""
        holder = self.demo.state_holder
        with holder.lock:
            for of_sessions in (holder.session_data, holder.time_last_used):
                of_sessions.pop(key, None)

    def _close(self, key: str) -> None:
        if visitor := self.visitors.close(key):
            self._forget_widgets(key)
            if not self.visitors.has(visitor.owner):
                self.context.uploads.forget(visitor.owner)

    def set_language(self, request: gr.Request, language: str) -> Updates:
        """Switch the page to another language."""
        visitor = self.context.visitor(request)
        visitor.session.texts = texts_for(language)
        return merged(self._localized(visitor), self.choices.picker(visitor))

    def _localized(self, visitor: Visitor, notice: str = "") -> Updates:
        """Render the whole page in the visitor's language."""
        localized = self.widgets.localize(visitor.session.texts, self.context.provider.card)
        return merged(localized, self.context.render(visitor, notice=notice))
