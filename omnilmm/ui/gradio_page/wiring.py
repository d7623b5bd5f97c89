"""Which handler of the Gradio page each event calls, and which widgets it reads and renders."""

from __future__ import annotations

from typing import Any, Protocol

import gradio as gr

from omnilmm.engine.options import LIMITS
from omnilmm.ui.gradio_page.answers import Answers
from omnilmm.ui.gradio_page.choices import Choices
from omnilmm.ui.gradio_page.context import Updates
from omnilmm.ui.gradio_page.conversations import Conversations
from omnilmm.ui.gradio_page.live import Live
from omnilmm.ui.gradio_page.past import Past
from omnilmm.ui.gradio_page.pictures import Pictures
from omnilmm.ui.gradio_page.widgets import Widgets

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = QUIET | {"concurrency_limit": None}  # queueing is left to the engine
# A number of slices that is being typed may be out of range, for which Gradio shows an error of its own.
WITHIN_LIMIT = """(box, slices, finer) => [box, Math.min(Math.max(Math.round(slices), {low}), {high}), finer]""".format(
    low=int(LIMITS["max_slices"].low), high=int(LIMITS["max_slices"].high)
)


class Handlers(Protocol):
    """The widgets of a page and what handles their events."""

    demo: gr.Blocks
    widgets: Widgets
    answers: Answers
    conversations: Conversations
    pictures: Pictures
    choices: Choices
    past: Past
    live: Live | None

    def on_load(self, request: gr.Request, browser_state: str, language: str) -> Updates:
        """Render a page that was opened."""

    def set_language(self, request: gr.Request, language: str) -> Updates:
        """Render the page in another language."""


class Wiring:
    """Connects the widgets of a page with its handlers; created within the page's `gr.Blocks`.

    Attributes:
        turn: the widgets that a turn renders.
        model: those that a change of models renders.
        remember: stores the state of the page in the browser.
    """

    def __init__(self, page: Handlers) -> None:
        self.page = page
        w = self.w = page.widgets
        self.turn: list[Any] = [w.chat, w.box, w.notice, w.shown, w.editing, w.browser_state, w.continue_answer]
        self.turn += [w.cancel, w.header, w.timer, w.seen, w.cancel_change]
        self.model: list[Any] = [*self.turn, w.picker, w.dtype, w.best, w.best_reason, w.about, w.system]
        self.model += [w.mode, *w.settings, *w.of_pictures]
        self.remember: dict[str, Any] = {"fn": None, "inputs": w.browser_state, "js": "omnilmm.remember"} | QUIET
        self._answers()
        self._conversations()
        self._past()
        self._messages()
        self._pictures()
        self._settings()
        self._exports()
        self._models()
        self._page()

    def _answers(self) -> None:
        w, answers, live = self.w, self.page.answers, self.page.live
        given = [w.shown, w.browser_state, w.system, w.mode, *w.settings]
        for event, handler, inputs in (
            (w.box.submit, answers.ask, [w.box, w.editing, *given]),
            (w.regenerate.click, answers.regenerate, given),
            (w.continue_answer.click, answers.continue_, given),
            *([(w.ask_live.click, live.ask, [*w.live, *given])] if live else []),
            *((button.click, answers.ask_sample(sample), given) for sample, button in w.samples),
        ):
            asked = {w.box: "omnilmm.sent", w.live_name: "omnilmmLive.asked"}.get(inputs[0], "omnilmm.asked")
            # A question sent during another answer stops that answer, so no click is lost.
            event(handler, inputs, js=asked, outputs=self.turn, trigger_mode="multiple", **AT_ONCE).then(
                **self.remember
            )

    def _conversations(self) -> None:
        w, conversations = self.w, self.page.conversations
        for event, handler, inputs in (
            (w.clear.click, conversations.forget, []),
            (w.undo.click, conversations.undo, [w.box]),
            (w.upload.upload, conversations.load, [w.upload]),
        ):
            event(handler, inputs, outputs=[*self.turn, w.system], **AT_ONCE).then(**self.remember)

    def _past(self) -> None:
        """Past chats; hidden widgets are emptied once the browser has stored their content."""
        w, past = self.w, self.page.past
        empty: dict[str, Any] = QUIET | {"fn": lambda: None, "queue": False}
        w.keep.click(past.send, w.has, w.record, js="() => omnilmm.has()", **AT_ONCE).then(
            None, w.record, js="omnilmmHistory.store", **QUIET
        ).then(outputs=w.record, **empty).then(None, js="omnilmmHistory.kept", **QUIET)
        w.open_past.click(
            past.open,
            w.opened,
            [*self.turn, w.system, w.previous_record],
            js="() => omnilmm.opened()",
            **AT_ONCE,
        ).then(None, w.previous_record, js="omnilmmHistory.store", **QUIET).then(
            outputs=w.previous_record, **empty
        ).then(**self.remember)

    def _messages(self) -> None:
        """Stop, and what belongs to one message."""
        w, conversations = self.w, self.page.conversations
        w.box.stop(self.page.answers.stop, queue=False, **QUIET)
        w.edit.click(
            conversations.edit,
            [w.number, w.box],
            [w.box, w.editing, w.notice, w.cancel],
            js="(number, box) => [...omnilmm.number(), box]",
            **AT_ONCE,
        )
        w.cancel.click(conversations.cancel, outputs=[w.box, w.editing, w.notice, w.cancel], **AT_ONCE)
        w.open.click(self.page.pictures.open, w.number, w.full, js="() => omnilmm.number()", **AT_ONCE).then(
            None, w.full, js="omnilmm.showFull", **QUIET
        )

    def _pictures(self) -> None:
        w, pictures = self.w, self.page.pictures
        seen = [w.seen, w.notice, w.bad]
        # Not `release`: it does not follow the keyboard. While the slider is dragged, only the last value is drawn.
        for event in (w.slices.input, w.finer_detail.input):
            given = [w.box, w.slices, w.finer_detail]
            event(pictures.set_detail, given, seen, js=WITHIN_LIMIT, trigger_mode="always_last", **AT_ONCE)
        # A file that is attached while earlier ones are being looked at is looked at next.
        w.show_slices.click(pictures.show_slices, w.box, seen, trigger_mode="always_last", **AT_ONCE).then(
            None, w.bad, js="omnilmm.remove", **QUIET
        )
        w.refuse.click(pictures.refuse, w.refused, w.notice, js="() => [omnilmm.refused()]", **AT_ONCE)
        w.dismiss.click(None, None, w.notice, js="() => ['']", **QUIET)
        w.newest.click(None, js="omnilmm.toNewest", **QUIET)
        w.stop_anywhere.click(None, js="omnilmm.stop", **QUIET)
        w.open_live.click(None, js="omnilmmLive.toggle", **QUIET)
        w.camera.click(pictures.show_camera, outputs=w.camera_panel, queue=False, **QUIET)
        # Without Gradio's preprocessing, which would decode the photo.
        as_sent = AT_ONCE | {"preprocess": False}
        w.photo.input(pictures.attach, [w.photo, w.box], [w.box, w.photo, w.camera_panel], **as_sent)

    def _settings(self) -> None:
        w, choices = self.w, self.page.choices
        w.mode.change(choices.show_controls, w.mode, w.columns, queue=False, **QUIET)
        w.reset.click(choices.reset, outputs=[*w.settings, w.seen], queue=False, **QUIET)

    def _exports(self) -> None:
        w, conversations = self.w, self.page.conversations
        for button, handler in (
            (w.export_json, conversations.export_json),
            (w.export_markdown, conversations.export_markdown),
        ):
            button.click(handler, outputs=w.file, **AT_ONCE).then(None, w.file, js="omnilmm.save", **QUIET)

    def _models(self) -> None:
        """The choice of another model, and the display of its progress."""
        w, choices = self.w, self.page.choices
        # Without Gradio's preprocessing, which fails with a traceback in the log if it is not among the choices.
        as_sent = AT_ONCE | {"preprocess": False}
        w.switch.click(choices.switch, [w.picker, w.dtype], self.model, **as_sent)
        for button in (w.best, w.take_offer):
            button.click(choices.switch_to_best, outputs=self.model, **AT_ONCE)
        w.cancel_change.click(choices.cancel, outputs=self.turn, **AT_ONCE)
        w.timer.tick(choices.show_model, outputs=self.model, queue=False, **QUIET)

    def _page(self) -> None:
        """The language, and the page being opened."""
        w, page = self.w, self.page
        localized = list({widget: None for widget, _ in w.localized} | dict.fromkeys(self.model))
        w.language.input(page.set_language, w.language, localized, js="omnilmm.choose", **AT_ONCE)
        page.demo.load(
            page.on_load, [w.browser_state, w.chosen_language], localized, js="() => omnilmm.remembered()", **AT_ONCE
        ).then(None, w.language, js="omnilmm.speak", **QUIET).then(**self.remember)
        page.demo.unload(lambda: None)  # with it Gradio's script holds the connection by which `Gate` knows the tab
