"""What the handlers of the Gradio page share: the engine, the visitors, the widgets, and how a session is painted."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from omnilmm.conversation import Picture
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import ImageError
from omnilmm.images.pixels import open_picture
from omnilmm.ui import markup, seen
from omnilmm.ui.embedding import data_address
from omnilmm.ui.gradio_page.bubbles import bubbles
from omnilmm.ui.gradio_page.visits import Question, Visit, Visits
from omnilmm.ui.gradio_page.widgets import IDLE_S, TICK_S, Widgets
from omnilmm.ui.offer import Offer
from omnilmm.ui.photos import offer_label, offered_for_photos
from omnilmm.ui.session import Draft, Session
from omnilmm.ui.status import status

EMPTY: Question = {"text": "", "files": []}
NOT_EDITING = -1

Painted = dict[Any, Any]  # widget -> what it shows now


@dataclass
class Shared:
    """See above.

    Attributes:
        provider: answers the questions, with whichever model.
        offer: what visitors can choose from; None where they cannot choose.
        most_answers: how many may be given and waited for at once; None for as many as come.
        visits: who is there.
        widgets: of the page.
    """

    provider: ModelProvider
    offer: Offer | None
    most_answers: int | None
    visits: Visits
    widgets: Widgets

    def state(self) -> tuple[int, bool]:
        """Of the model: what depends on it is painted anew when this is another one than before."""
        return self.provider.version, self.provider.is_changing

    def visit(self, request: gr.Request) -> Visit:
        """Whose request it is."""
        visit = self.visits.of(str(request.session_hash))
        visit.user = request.username or ""
        return visit

    def paint(
        self,
        visit: Visit,
        draft: Draft | None = None,
        notice: str = "",
        question: Question | None = None,
        editing: int | None = None,
    ) -> Painted:
        """The whole state of a session; the question box keeps its content unless there is a new one."""
        w, session = self.widgets, visit.session
        is_busy = session.busy
        is_anew = draft.is_anew if draft else session.reopens
        box: dict[str, Any] = {"submit_btn": not is_busy, "stop_btn": session.texts.stop if is_busy else False}
        painted: Painted = {
            w.chat: self._chat(session, draft),
            w.box: gr.update(**box if question is None else box | {"value": question}),
            w.notice: markup.notice_html(notice or (session.texts.began_anew if is_anew else "")),
            w.shown: len(session.conversation.messages),
            w.go_on: gr.update(visible=session.can_go_on and not is_busy),
        }
        if editing is not None:
            painted |= {w.editing: editing, w.cancel: gr.update(visible=editing >= 0)}
        if draft is None:  # what does not change while an answer grows
            painted |= {w.memory: visit.memory(), w.seen: self.seen(visit)} | self.model(visit)
        return painted

    def system(self, visit: Visit) -> Painted:
        """The system prompt of a conversation that was taken up."""
        return {self.widgets.system: gr.update(value=visit.session.conversation.system or "")}

    def talk(self, visit: Visit) -> Painted:
        """The conversation after a change of models, with what can be offered now; nothing while an answer grows."""
        return {} if visit.session.busy else {self.widgets.chat: self._chat(visit.session)}

    def _chat(self, session: Session, draft: Draft | None = None) -> dict[str, Any]:
        best = offered_for_photos(self.offer, self.provider)
        return gr.update(
            value=bubbles(session, draft, offer_label(best, session.texts) if best else ""),
            placeholder=session.texts.first_screen(self.provider.card),
        )

    def model(self, visit: Visit) -> Painted:
        """What is said about the model, and how soon to ask for it again."""
        w, texts, provider = self.widgets, visit.session.texts, self.provider
        can_cancel = self.offer is not None and provider.change is not None and provider.change.can_be_cancelled
        return {
            w.header: markup.header_html(texts.title, *status(provider, texts)),
            w.cancel_change: gr.update(visible=can_cancel),
            w.ticks: gr.Timer(TICK_S if provider.is_changing else IDLE_S),
        }

    def seen(self, visit: Visit, pictures: Sequence[Picture] = ()) -> str:
        """How the model sees these pictures, or else the newest one of the conversation."""
        texts = visit.session.texts
        shown = pictures or visit.session.conversation.pictures[-1:]
        if not shown:
            return f"<p>{html.escape(texts.seen_nothing)}</p>"
        figures = []
        for picture in shown:
            views = self.provider.views(picture)
            name, line = texts.picture_name(*picture.image.size), html.escape(texts.seen_line(views))
            source = data_address(seen.drawn(picture, views))
            figures.append(
                f'<figure><img src="{source}" alt="{name}"><figcaption>{name}<br>{line}</figcaption></figure>'
            )
        return "".join(figures)


def open_upload(file: str) -> Picture:
    """A picture that was uploaded.

    Raises:
        ImageError: Why it cannot be used, with its name.
    """
    try:
        return open_picture(Path(file))
    except ImageError as error:
        raise ImageError(f"{Path(file).name}: {error}") from error


def merged(*updates: Painted) -> Painted:
    """Several updates as one; what two of them say about one widget is said together."""
    whole: Painted = {}
    for update in updates:
        for widget, value in update.items():
            before = whole.get(widget)
            both = isinstance(before, dict) and isinstance(value, dict) and "__type__" in before and "__type__" in value
            whole[widget] = {**before, **value} if both else value  # type: ignore[dict-item]
    return whole
