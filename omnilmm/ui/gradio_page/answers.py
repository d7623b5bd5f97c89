"""Event handlers for questions and answers on the Gradio page.

Each answer is generated on its own thread, which a handler polls: closing or reloading the page ends the handler, and
the answer is still finalized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from omnilmm.conversation import Picture, Video
from omnilmm.engine.options import Options, options_for
from omnilmm.images.pixels import open_picture
from omnilmm.ui.answering import FINALIZE_S, Answering, queue_refusal
from omnilmm.ui.controls import options_from_controls, switched
from omnilmm.ui.draft import Draft
from omnilmm.ui.gradio_page.context import EMPTY, NOT_EDITING, PageContext, Updates
from omnilmm.ui.gradio_page.visitors import Question, Visitor
from omnilmm.ui.samples import Sample

POLL_S = 0.05  # how often a handler polls the answer that it shows

Parts = tuple[str | Picture | Video, ...]


class Answers:
    """Event handlers; `page.Page` wires them."""

    def __init__(self, context: PageContext) -> None:
        self.context = context

    def ask(
        self, request: gr.Request, question: Question, editing: int, shown: int, browser_state: str, *settings: Any
    ) -> Iterator[Updates]:
        """Answer the question in the box, in place of an earlier question if one is being edited."""
        visitor = self.context.visitor(request)

        def drafts() -> Iterator[Draft]:
            pictures = [self.context.open_upload(visitor, file) for file in question["files"]]
            parts = (*pictures, question["text"])
            options = self.options(visitor, settings)
            if editing >= 0:
                return visitor.session.edit(self.context.provider, editing, parts, options)
            return visitor.session.ask(self.context.provider, parts, options)

        yield from self.turn(visitor, (shown, browser_state), drafts, question, editing)

    def ask_sample(self, sample: Sample) -> Callable[..., Iterator[Updates]]:
        """Return a handler that asks about a sample picture in a new chat; the question box keeps its content."""

        def handler(request: gr.Request, shown: int, browser_state: str, *settings: Any) -> Iterator[Updates]:
            visitor = self.context.visitor(request)

            def drafts() -> Iterator[Draft]:
                parts = (open_picture(sample.picture), sample.asked_in(visitor.session.texts.code))
                return visitor.session.ask_in_new_chat(self.context.provider, parts, self.options(visitor, settings))

            yield from self.turn(visitor, (shown, browser_state), drafts)

        return handler

    def regenerate(self, request: gr.Request, shown: int, browser_state: str, *settings: Any) -> Iterator[Updates]:
        """Regenerate the last answer."""
        visitor = self.context.visitor(request)
        yield from self.turn(
            visitor,
            (shown, browser_state),
            lambda: visitor.session.regenerate(self.context.provider, self.options(visitor, settings)),
        )

    def continue_(self, request: gr.Request, shown: int, browser_state: str, *settings: Any) -> Iterator[Updates]:
        """Ask the model to continue an answer that was cut off."""
        visitor = self.context.visitor(request)
        parts: Parts = (visitor.session.texts.continue_question,)

        def drafts() -> Iterator[Draft]:
            return visitor.session.ask(self.context.provider, parts, self.options(visitor, settings))

        yield from self.turn(visitor, (shown, browser_state), drafts)

    async def stop(self, request: gr.Request) -> None:
        """Stop the running answer; the handler that shows it finalizes it."""
        self.context.visitor(request).session.stop()

    def turn(
        self,
        visitor: Visitor,
        on_page: tuple[int, str],
        drafts: Callable[[], Iterator[Draft]],
        question: Question | None = None,
        editing: int = NOT_EDITING,
        begun: Callable[[Answering], None] | None = None,
    ) -> Iterator[Updates]:
        """Render a turn while it is answered.

        Args:
            visitor: the visitor who asks.
            on_page: the number of messages that the page shows, and what the browser has stored.
            drafts: returns the turn.
            question: leaves the question box, and returns to it if there is no answer; None for one from elsewhere.
            editing: the number of the question that it replaces.
            begun: called once the turn runs, unless it is refused.
        """
        session = visitor.session
        if not on_page[0]:  # the conversation may still be restored; if the page shows one, it is done
            visitor.is_restored.wait(FINALIZE_S)
            visitor.is_restored.set()  # a page that was opened before the server was started: wait only once
        # An empty one does not return: by the time that it is refused, somebody may have typed the next one.
        has_content = question is not None and (question["text"].strip() or question["files"])
        back: dict[str, Any] = {"question": question, "editing": editing} if has_content else {}
        if refusal := self._refusal(visitor, *on_page):
            yield self.context.render(visitor, notice=refusal, **back)
            return
        answering = visitor.answering = Answering(
            session, drafts, lambda: not session.closed, restores_question=question is not None
        )
        if begun:
            begun(answering)
        # Restore the content that the box had before an earlier question was put into it for editing.
        left = visitor.stashed if editing >= 0 and visitor.stashed else EMPTY
        emptied: dict[str, Any] = {} if question is None else {"question": left, "editing": NOT_EDITING}
        shown_draft: Draft | None = None
        while not answering.done.wait(POLL_S):
            draft = answering.draft
            if draft is not None and draft != shown_draft and draft.state == "generating":
                yield self.context.render(visitor, draft, **emptied)
                shown_draft, emptied = draft, {}  # emptied once: by now the box may hold a new question
        if session.closed:
            return
        if answering.outcome == "completed":
            for file in question["files"] if question else ():  # from now on only the conversation keeps them
                self.context.uploads.discard(visitor.owner, file)
            self.context.visitors.save(visitor)
        if answering.outcome in ("completed", "discarded") or session.busy:  # busy: the next question has taken over
            visitor.stashed = None if editing >= 0 else visitor.stashed
            yield self.context.render(visitor, **emptied)
        else:
            yield self.context.render(visitor, notice=answering.notice, **back)

    def _refusal(self, visitor: Visitor, shown: int, browser_state: str) -> str:
        """Return why nothing can be asked now; restores the conversation on the page if the server has lost it."""
        session = visitor.session
        if shown and not session.conversation.messages and not session.busy:
            notice = self.context.visitors.restore(visitor, browser_state)
            if notice or not session.conversation.messages:
                return notice or session.texts.lost
        return queue_refusal(session, self.context.visitors.sessions, self.context.max_answers)

    def options(self, visitor: Visitor, settings: Sequence[Any]) -> Options:
        """Return the options that the settings on the page mean for the current model."""
        system, mode, thinking, finer_detail, *values = settings
        if visitor.card and visitor.card.name != self.context.provider.card.name:  # not on the page yet
            return options_for(self.context.provider.card, mode)
        if self.context.provider.card.system_prompt:
            visitor.session.set_system(system or "")
        named = zip(self.context.widgets.controls, values, strict=True)
        chosen = {name: value for (of, name, _), value in named if of in (mode, None)}
        chosen |= switched(self.context.provider.card, thinking, finer_detail)
        options = options_from_controls(self.context.provider.card, mode, chosen)
        # A server that was started again knows the settings of an open page from here on.
        visitor.max_slices, visitor.finer_detail = options.max_slices, bool(options.finer_detail)
        return options
