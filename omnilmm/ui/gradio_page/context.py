"""Shared context of the Gradio page's handlers: the model, visitors and widgets, and the rendering of a session."""

from __future__ import annotations

import html
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from omnilmm.conversation import Picture, Video
from omnilmm.engine.options import Sampling
from omnilmm.engine.provider import ModelProvider
from omnilmm.images.videos import is_video_file
from omnilmm.ui import drawing, markup
from omnilmm.ui.draft import Draft
from omnilmm.ui.embedding import data_address
from omnilmm.ui.gradio_page.blocks import ORDER, Order
from omnilmm.ui.gradio_page.bubbles import bubbles
from omnilmm.ui.gradio_page.uploads import Uploads, owner_of
from omnilmm.ui.gradio_page.visitors import Question, Visitor, Visitors
from omnilmm.ui.gradio_page.widgets import CHANGING_POLL_S, IDLE_POLL_S, Widgets
from omnilmm.ui.offer import Offer
from omnilmm.ui.photos import offer_label, offered_for_photos
from omnilmm.ui.session import Session
from omnilmm.ui.status import status
from omnilmm.ui.upload import open_upload
from omnilmm.ui.video_figure import video_figure

EMPTY: Question = {"text": "", "files": []}
NOT_EDITING = -1
OUTDATED = "<p data-outdated></p>"  # in place of what the model sees; the page's script then asks for it anew

Updates = dict[Any, Any]  # widget -> its new value


@dataclass
class PageContext:
    """Shared context of the handlers.

    Attributes:
        provider: provides the model that answers.
        offer: the models that visitors can choose from; None if they cannot choose.
        max_answers: how many answers may run or wait at once; None for no limit.
        visitors: the open tabs.
        widgets: the widgets of the page.
        uploads: the uploads of all visitors.
    """

    provider: ModelProvider
    offer: Offer | None
    max_answers: int | None
    visitors: Visitors
    widgets: Widgets
    uploads: Uploads
    # Of what is rendered; they also grow over a restart, since an open page remembers the highest.
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns() // 1000))

    def state(self) -> tuple[int, bool]:
        """Return the state of the model; whatever depends on it is rendered again when it changes."""
        return self.provider.version, self.provider.is_changing

    def visitor(self, request: gr.Request) -> Visitor:
        """Return the visitor who sent a request."""
        visitor = self.visitors.get(str(request.session_hash))
        visitor.user = request.username or ""
        visitor.owner = owner_of(request.headers) or visitor.owner
        return visitor

    def open_upload(self, visitor: Visitor, file: str) -> Picture | Video:
        """Open a picture or a video that this visitor uploaded; a video is decoded once, when it comes into the box.

        Raises:
            InputError: It is not an upload of this visitor, or a video that the model does not support.
            ImageError: It cannot be used; the message has its name and the reason.
        """
        path, card = self.uploads.file(visitor.owner, file), self.provider.card
        if not is_video_file(path):
            return open_upload(path.name, path, card)
        with visitor.videos.lock:
            sampling = card.require_video()
            video = visitor.videos.get(str(path), sampling)
            if video is None:
                opened = open_upload(path.name, path, card)
                if isinstance(opened, Video):
                    visitor.videos.put(str(path), sampling, opened)
                return opened
            return video

    def render(
        self,
        visitor: Visitor,
        draft: Draft | None = None,
        notice: str = "",
        question: Question | None = None,
        editing: int | None = None,
    ) -> Updates:
        """Render the whole state of a session; the question box keeps its content unless `question` is given.

        Before a page is restored, what it shows and what its browser stores of the conversation stay as they are.
        """
        w, session, number = self.widgets, visitor.session, next(self._numbers)
        is_busy = session.busy
        starts_new_chat = draft.starts_new_chat if draft else session.reopens
        box: dict[str, Any] = {"submit_btn": not is_busy, "stop_btn": session.texts.stop if is_busy else False}
        updates: Updates = {
            w.box: gr.update(**box if question is None else box | {"value": question}),
            w.notice: markup.notice_html(notice or (session.texts.began_anew if starts_new_chat else "")),
            w.continue_answer: gr.update(visible=session.can_continue and not is_busy),
        }
        if visitor.is_restored.is_set():
            updates |= {w.chat: self._chat(session, draft), w.shown: len(session.conversation.messages)}
        if editing is not None:
            updates |= {w.editing: editing, w.cancel: gr.update(visible=editing >= 0)}
        if draft is None:  # unchanged while an answer is streamed
            updates |= {w.seen: self.seen(visitor)} | self.model(visitor)
            if visitor.is_restored.is_set():
                updates[w.browser_state] = visitor.browser_state()
        return updates | {ORDER: self._order(number, updates)}

    def _order(self, number: int, updates: Updates) -> Order:
        """Number the updates that show the state of a session.

        The number is taken before the state is read, so that what has the highest shows every earlier change.
        """
        w = self.widgets
        order: Order = {w.chat: (number, ("value",)), w.box: (number, ("submit_btn", "stop_btn"))}
        order |= {w.continue_answer: (number, ("visible",)), w.shown: (number, ()), w.browser_state: (number, ())}
        order[w.notice] = (number, None if updates.get(w.notice) else ())  # no later rendering would show it
        return {widget: entry for widget, entry in order.items() if widget in updates}

    def system(self, visitor: Visitor) -> Updates:
        """Render the system prompt of a loaded conversation."""
        return {self.widgets.system: gr.update(value=visitor.session.conversation.system or "")}

    def conversation_update(self, visitor: Visitor) -> Updates:
        """Render the conversation after a change of models, with the current offer.

        Nothing is rendered during an answer, nor before the conversation of a reloaded page is restored.
        """
        number = next(self._numbers)
        if not visitor.is_restored.is_set() or visitor.session.busy:
            return {}
        updates: Updates = {self.widgets.chat: self._chat(visitor.session)}
        return updates | {ORDER: self._order(number, updates)}

    def _chat(self, session: Session, draft: Draft | None = None) -> dict[str, Any]:
        best = offered_for_photos(self.offer, self.provider)
        return gr.update(
            value=bubbles(session, draft, offer_label(best, session.texts) if best else ""),
            placeholder=session.texts.first_screen(self.provider.card),
        )

    def model(self, visitor: Visitor) -> Updates:
        """Render the status of the model, and set how soon it is polled again."""
        w, texts, provider = self.widgets, visitor.session.texts, self.provider
        can_cancel = self.offer is not None and provider.change is not None and provider.change.can_be_cancelled
        return {
            w.header: markup.header_html(texts.title, *status(provider, texts)),
            w.cancel_change: gr.update(visible=can_cancel),
            w.timer: gr.Timer(CHANGING_POLL_S if provider.is_changing else IDLE_POLL_S),
        }

    def seen(self, visitor: Visitor, pictures: Sequence[Picture | Video] = ()) -> str:
        """Render how the model sees these pictures and videos, or else the newest one of the conversation."""
        texts, number = visitor.session.texts, next(self._numbers)  # by which the page's script knows what is newer
        messages = visitor.session.conversation.messages
        shown = pictures or next((message.shown[-1:] for message in reversed(messages) if message.shown), ())
        if not shown:
            return f'<p data-number="{number}">{html.escape(texts.seen_nothing)}</p>'
        figures = [f'<i hidden data-number="{number}"></i>']
        card = self.provider.card
        finer = (visitor.finer_detail or None) if card.finer_detail else None
        options = Sampling(max_slices=visitor.max_slices if card.max_slices is not None else None, finer_detail=finer)
        for picture in shown:
            if isinstance(picture, Video):
                figures.append(video_figure(picture, card, texts, finer))
                continue
            views = self.provider.slices(picture, options)
            name = texts.picture_name(*picture.image.size)
            line = html.escape(texts.seen_line(views, is_assumed=card.are_slices_assumed))
            source = data_address(drawing.with_slices(picture, views))
            figures.append(
                f'<figure><img src="{source}" alt="{name}"><figcaption>{name}<br>{line}</figcaption></figure>'
            )
        return "".join(figures)


def merged(*updates: Updates) -> Updates:
    """Merge several updates into one; updates of the same widget are merged, too."""
    whole: Updates = {}
    for update in updates:
        for widget, value in update.items():
            before = whole.get(widget)
            both = widget == ORDER or all(isinstance(one, dict) and "__type__" in one for one in (before, value))
            whole[widget] = {**(before or {}), **value} if both else value
    return whole
