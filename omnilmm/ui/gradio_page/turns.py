"""Asking and answering on the Gradio page.

Each answer is given on a thread of its own, at which a handler looks: a page that is closed or loaded anew ends the
handler, and the answer is put away all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from omnilmm.conversation import Picture
from omnilmm.engine.options import Options, options_for
from omnilmm.images.pixels import open_picture
from omnilmm.ui.answering import PUT_AWAY_S, Answering
from omnilmm.ui.controls import chosen_options
from omnilmm.ui.gradio_page.shared import EMPTY, NOT_EDITING, Painted, Shared, open_upload
from omnilmm.ui.gradio_page.visits import Question, Visit
from omnilmm.ui.samples import Sample
from omnilmm.ui.session import Draft

LOOK_S = 0.05  # how often a handler looks at the answer that it shows

Parts = tuple[str | Picture, ...]


class Turns:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def ask(
        self, request: gr.Request, question: Question, editing: int, shown: int, memory: str, *settings: Any
    ) -> Iterator[Painted]:
        """Answer what is in the box, in place of an earlier question if one is edited."""
        visit = self.shared.visit(request)

        def drafts() -> Iterator[Draft]:
            parts = (*map(open_upload, question["files"]), question["text"])
            options = self._options(visit, settings)
            if editing >= 0:
                return visit.session.edit(self.shared.provider, editing, parts, options)
            return visit.session.ask(self.shared.provider, parts, options)

        yield from self._turn(visit, (shown, memory), drafts, question, editing)

    def ask_sample(self, sample: Sample) -> Callable[..., Iterator[Painted]]:
        """A handler that asks about a sample picture in a new chat; what is in the box stays there."""

        def handler(request: gr.Request, shown: int, memory: str, *settings: Any) -> Iterator[Painted]:
            visit = self.shared.visit(request)

            def drafts() -> Iterator[Draft]:
                parts = (open_picture(sample.picture), sample.asked_in(visit.session.texts.code))
                return visit.session.ask_anew(self.shared.provider, parts, self._options(visit, settings))

            yield from self._turn(visit, (shown, memory), drafts)

        return handler

    def again(self, request: gr.Request, shown: int, memory: str, *settings: Any) -> Iterator[Painted]:
        """Answer the last question anew."""
        visit = self.shared.visit(request)
        yield from self._turn(
            visit, (shown, memory), lambda: visit.session.again(self.shared.provider, self._options(visit, settings))
        )

    def go_on(self, request: gr.Request, shown: int, memory: str, *settings: Any) -> Iterator[Painted]:
        """Ask the model to go on where its answer was cut off."""
        visit = self.shared.visit(request)
        parts: Parts = (visit.session.texts.go_on_question,)

        def drafts() -> Iterator[Draft]:
            return visit.session.ask(self.shared.provider, parts, self._options(visit, settings))

        yield from self._turn(visit, (shown, memory), drafts)

    async def stop(self, request: gr.Request) -> None:
        """Stop the running answer; the handler that shows it puts it away."""
        self.shared.visit(request).session.stop()

    def _turn(
        self,
        visit: Visit,
        on_page: tuple[int, str],
        drafts: Callable[[], Iterator[Draft]],
        question: Question | None = None,
        editing: int = NOT_EDITING,
    ) -> Iterator[Painted]:
        """Paint a turn while it is answered; `question` leaves the box, and comes back if nothing comes of it."""
        session = visit.session
        visit.is_back.wait(PUT_AWAY_S)  # who is fast asks before the page is back
        back: dict[str, Any] = {} if question is None else {"question": question, "editing": editing}
        if refusal := self._refusal(visit, *on_page):
            yield self.shared.paint(visit, notice=refusal, **back)
            return
        answering = visit.answering = Answering(
            session, drafts, lambda: not session.closed, gives_back=question is not None
        )
        emptied: dict[str, Any] = {} if question is None else {"question": EMPTY, "editing": NOT_EDITING}
        painted: Draft | None = None
        while not answering.done.wait(LOOK_S):
            draft = answering.draft
            if draft is not None and draft != painted and draft.state == "growing":
                yield self.shared.paint(visit, draft, **emptied)
                painted, emptied = draft, {}  # emptied once: by now there may be a new question in it
        if session.closed:
            return
        if answering.outcome == "kept":
            _delete_uploads(question)
            self.shared.visits.keep(visit)
        if answering.outcome in ("kept", "forgotten") or session.busy:  # busy: the next question has taken over
            if emptied and visit.aside and not session.busy:  # what was in the box before an earlier question was
                emptied, visit.aside = {"question": visit.aside, "editing": NOT_EDITING}, None
            yield self.shared.paint(visit, **emptied)
        else:
            yield self.shared.paint(visit, notice=answering.notice, **back)

    def _refusal(self, visit: Visit, shown: int, memory: str) -> str:
        """Why nothing can be asked now; takes up what the page shows if the server no longer knows it."""
        session = visit.session
        if shown and not session.conversation.messages and not session.busy:
            notice = self.shared.visits.come_back(visit, memory)
            if notice or not session.conversation.messages:
                return notice or session.texts.lost
        if (
            self.shared.most_answers is not None
            and not session.busy
            and self.shared.visits.busy() >= self.shared.most_answers
        ):
            return session.texts.many_waiting.format(count=self.shared.most_answers)
        return ""

    def _options(self, visit: Visit, settings: Sequence[Any]) -> Options:
        system, mode, *values = settings
        if visit.card and visit.card.name != self.shared.provider.card.name:  # not on its page yet
            return options_for(self.shared.provider.card, mode)
        if self.shared.provider.card.system_prompt:
            visit.session.set_system(system or "")
        named = zip(self.shared.widgets.controls, values, strict=True)
        chosen = {name: value for (of, name, _), value in named if of in (mode, None)}
        return chosen_options(self.shared.provider.card, mode, chosen)


def _delete_uploads(question: Question | None) -> None:
    """The pictures of a kept question live on in its conversation alone."""
    for file in question["files"] if question else ():
        Path(file).unlink(missing_ok=True)
