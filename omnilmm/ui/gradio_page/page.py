"""The Gradio page: which handler each event calls. Turns are defined in `omnilmm.ui.session`.

Every handler renders the whole state of its session, so the order in which the updates of two handlers reach the
browser does not matter. Queueing and fairness are left to the engine: no handler has a limit of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from omnilmm.engine.provider import ModelProvider
from omnilmm.live.talk import Parts
from omnilmm.ui.gradio_page.answers import Answers
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
        self.visitors = Visitors(SessionStore())
        uploads = (UPLOADS_CHECKED_S, UPLOADS_KEPT_S)
        with gr.Blocks(title=ENGLISH.title, analytics_enabled=False, delete_cache=uploads) as self.demo:
            self.widgets = Widgets(provider.card, switches=offer is not None, is_live=live is not None)
            self.context = PageContext(
                provider, offer, max_answers, self.visitors, self.widgets, Uploads(upload_folder())
            )
            self.answers, self.conversations = Answers(self.context), Conversations(self.context)
            self.pictures, self.choices = Pictures(self.context), Choices(self.context)
            self.past = Past(self.context)
            self.live = Live(self.context, self.answers, live) if live else None
            self._wire()
        self.events = Events(self.demo, self.context.uploads, self.widgets.kinds)

    def _wire(self) -> None:
        w = self.widgets
        settings = [w.system, w.mode, *w.settings]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        at_once = quiet | {"concurrency_limit": None}
        turn = [
            w.chat,
            w.box,
            w.notice,
            w.shown,
            w.editing,
            w.browser_state,
            w.continue_answer,
            w.cancel,
            w.header,
            w.timer,
            w.seen,
        ]
        turn += [w.cancel_change]
        remember = {"fn": None, "inputs": w.browser_state, "js": "omnilmm.remember"} | quiet
        # A question sent during another answer stops that answer, so no click is lost.
        answers = at_once | {"trigger_mode": "multiple", "outputs": turn}
        given = [w.shown, w.browser_state, *settings]
        for event, handler, inputs in (
            (w.box.submit, self.answers.ask, [w.box, w.editing, *given]),
            (w.regenerate.click, self.answers.regenerate, given),
            (w.continue_answer.click, self.answers.continue_, given),
            *([(w.ask_live.click, self.live.ask, [w.live_name, w.live_question, *given])] if self.live else []),
            *((button.click, self.answers.ask_sample(sample), given) for sample, button in w.samples),
        ):
            asked = {w.box: "omnilmm.sent", w.live_name: "omnilmmLive.asked"}.get(inputs[0], "omnilmm.asked")
            event(handler, inputs, js=asked, **answers).then(**remember)
        for event, handler, inputs in (
            (w.clear.click, self.conversations.forget, []),
            (w.undo.click, self.conversations.undo, [w.box]),
            (w.upload.upload, self.conversations.load, [w.upload]),
        ):
            event(handler, inputs, outputs=[*turn, w.system], **at_once).then(**remember)
        self._wire_past([*turn, w.system], at_once, quiet, remember)
        w.box.stop(self.answers.stop, queue=False, **quiet)
        w.edit.click(
            self.conversations.edit,
            [w.number, w.box],
            [w.box, w.editing, w.notice, w.cancel],
            js="(number, box) => [...omnilmm.number(), box]",
            **at_once,
        )
        w.cancel.click(self.conversations.cancel, outputs=[w.box, w.editing, w.notice, w.cancel], **at_once)
        w.open.click(self.pictures.open, w.number, w.full, js="() => omnilmm.number()", **at_once).then(
            None, w.full, js="omnilmm.showFull", **quiet
        )
        seen: dict[str, Any] = {"inputs": [w.box, w.slices, w.finer_detail], "outputs": [w.seen, w.notice, w.bad]}
        w.slices.release(self.pictures.show_slices, **seen, **at_once)
        w.finer_detail.input(self.pictures.show_slices, **seen, **at_once)
        w.show_slices.click(self.pictures.show_slices, **seen, **at_once).then(
            None, w.bad, js="omnilmm.remove", **quiet
        )
        w.refuse.click(self.pictures.refuse, w.refused, w.notice, js="() => [omnilmm.refused()]", **at_once)
        w.dismiss.click(None, None, w.notice, js="() => ['']", **quiet)
        w.newest.click(None, js="omnilmm.toNewest", **quiet)
        w.stop_anywhere.click(None, js="omnilmm.stop", **quiet)
        w.open_live.click(None, js="omnilmmLive.toggle", **quiet)
        w.camera.click(self.pictures.show_camera, outputs=w.camera_panel, queue=False, **quiet)
        # Without Gradio's preprocessing, which would decode the photo.
        as_sent = at_once | {"preprocess": False}
        w.photo.input(self.pictures.attach, [w.photo, w.box], [w.box, w.photo, w.camera_panel], **as_sent)
        w.mode.change(self.choices.show_controls, w.mode, w.columns, queue=False, **quiet)
        w.reset.click(self.choices.reset, outputs=w.settings, queue=False, **quiet)
        for button, handler in (
            (w.export_json, self.conversations.export_json),
            (w.export_markdown, self.conversations.export_markdown),
        ):
            button.click(handler, outputs=w.file, **at_once).then(None, w.file, js="omnilmm.save", **quiet)
        model = [*turn, w.picker, w.dtype, w.best, w.best_reason, w.about, w.system]
        model += w.settings
        self._wire_models(turn, model, at_once, quiet)
        localized = list({widget: None for widget, _ in w.localized} | dict.fromkeys([*turn, *model]))
        w.language.input(self.set_language, w.language, localized, js="omnilmm.choose", **at_once)
        self.demo.load(
            self.on_load, [w.browser_state, w.chosen_language], localized, js="() => omnilmm.remembered()", **at_once
        ).then(None, w.language, js="omnilmm.speak", **quiet).then(**remember)
        self.demo.unload(self.on_unload)

    def _wire_models(self, turn: list[Any], model: list[Any], at_once: Any, quiet: Any) -> None:
        """Wire the choice of another model, and the display of its progress."""
        w = self.widgets
        w.switch.click(self.choices.switch, [w.picker, w.dtype], model, **at_once)
        for button in (w.best, w.take_offer):
            button.click(self.choices.switch_to_best, outputs=model, **at_once)
        w.cancel_change.click(self.choices.cancel, outputs=turn, **at_once)
        w.timer.tick(self.choices.show_model, outputs=model, queue=False, **quiet)

    def _wire_past(self, rendered: list[Any], at_once: Any, quiet: Any, remember: Any) -> None:
        """Wire past chats; hidden widgets are emptied once the browser has their content, or Gradio would retain it."""
        w = self.widgets
        empty = quiet | {"fn": lambda: None, "queue": False}
        w.keep.click(self.past.send, w.has, w.record, js="() => omnilmm.has()", **at_once).then(
            None, w.record, js="omnilmmHistory.store", **quiet
        ).then(outputs=w.record, **empty).then(None, js="omnilmmHistory.kept", **quiet)
        w.open_past.click(
            self.past.open, w.opened, [*rendered, w.previous_record], js="() => omnilmm.opened()", **at_once
        ).then(None, w.previous_record, js="omnilmmHistory.store", **quiet).then(
            outputs=w.previous_record, **empty
        ).then(**remember)

    def on_load(self, request: gr.Request, browser_state: str, language: str) -> Updates:
        """Render a page that was opened or reloaded: in the visitor's language, with the restored conversation."""
        visitor = self.context.visitor(request)
        visitor.session.texts = texts_for(language or request.headers.get("accept-language"))
        notice = self.visitors.restore(visitor, browser_state)
        return merged(self._localized(visitor, notice), self.choices.settings(visitor))

    async def on_unload(self, request: gr.Request) -> None:
        """Handle a closed or reloaded tab: stop its answer, and keep its conversation for a while."""
        key = str(request.session_hash)
        self.demo.state_holder.session_data.pop(key, None)  # Gradio's own copy of the values of all widgets
        await asyncio.to_thread(self._close, key, self.context.visitor(request).owner)

    def _close(self, key: str, owner: str) -> None:
        self.visitors.close(key)
        if not self.visitors.has(owner):
            self.context.uploads.forget(owner)

    def set_language(self, request: gr.Request, language: str) -> Updates:
        """Switch the page to another language."""
        visitor = self.context.visitor(request)
        visitor.session.texts = texts_for(language)
        return merged(self._localized(visitor), self.choices.picker(visitor))

    def _localized(self, visitor: Visitor, notice: str = "") -> Updates:
        """Render the whole page in the visitor's language."""
        localized = self.widgets.localize(visitor.session.texts, self.context.provider.card)
        return merged(localized, self.context.render(visitor, notice=notice))
