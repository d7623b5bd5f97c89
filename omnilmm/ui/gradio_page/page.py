"""The Gradio page: which handler is called by what. What a turn is stands in `omnilmm.ui.session`.

Every handler paints the whole state of its session, so it does not matter in which order the answers of two handlers
reach the browser. Waiting and fairness are the engine's: no handler has a limit of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.gradio_page.choices import Choices
from omnilmm.ui.gradio_page.conversations import Conversations
from omnilmm.ui.gradio_page.past import Past
from omnilmm.ui.gradio_page.pictures import Pictures
from omnilmm.ui.gradio_page.serving import UPLOADS_CHECKED_S, UPLOADS_KEPT_S
from omnilmm.ui.gradio_page.shared import Painted, Shared, merged
from omnilmm.ui.gradio_page.turns import Turns
from omnilmm.ui.gradio_page.visits import Visit, Visits
from omnilmm.ui.gradio_page.widgets import Widgets
from omnilmm.ui.offer import Offer
from omnilmm.ui.session_store import Keeper
from omnilmm.ui.texts import ENGLISH, texts_for


class Page:
    """The page, its handlers, and its visitors.

    Args:
        provider: answers the questions.
        offer: what visitors can choose from; nothing without.
        most_answers: how many may be given and waited for at once; None for as many as come.
    """

    def __init__(self, provider: ModelProvider, offer: Offer | None = None, most_answers: int | None = None) -> None:
        self.visits = Visits(Keeper())
        uploads = (UPLOADS_CHECKED_S, UPLOADS_KEPT_S)
        with gr.Blocks(title=ENGLISH.title, analytics_enabled=False, delete_cache=uploads) as self.demo:
            self.widgets = Widgets(provider.card, switches=offer is not None)
            self.shared = Shared(provider, offer, most_answers, self.visits, self.widgets)
            self.turns, self.conversations = Turns(self.shared), Conversations(self.shared)
            self.pictures, self.choices = Pictures(self.shared), Choices(self.shared)
            self.past = Past(self.shared)
            self._wire()

    def _wire(self) -> None:
        w = self.widgets
        settings = [w.system, w.mode, *(widget for _, _, widget in w.controls)]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        at_once = quiet | {"concurrency_limit": None}
        turn = [w.chat, w.box, w.notice, w.shown, w.editing, w.memory, w.go_on, w.cancel, w.header, w.ticks, w.seen]
        turn += [w.cancel_change]
        remember = {"fn": None, "inputs": w.memory, "js": "omnilmm.remember"} | quiet
        # A question sent while another is answered stops that one, so no click is swallowed.
        answers = at_once | {"trigger_mode": "multiple", "outputs": turn}
        given = [w.shown, w.memory, *settings]
        for event, handler, inputs in (
            (w.box.submit, self.turns.ask, [w.box, w.editing, *given]),
            (w.regenerate.click, self.turns.again, given),
            (w.go_on.click, self.turns.go_on, given),
            *((button.click, self.turns.ask_sample(sample), given) for sample, button in w.samples),
        ):
            asked = "omnilmm.sent" if inputs[0] is w.box else "omnilmm.asked"
            event(handler, inputs, js=asked, **answers).then(**remember)
        for event, handler, inputs in (
            (w.clear.click, self.conversations.forget, []),
            (w.undo.click, self.conversations.undo, [w.box]),
            (w.upload.upload, self.conversations.take_up, [w.upload]),
        ):
            event(handler, inputs, outputs=[*turn, w.system], **at_once).then(**remember)
        self._wire_past([*turn, w.system], at_once, quiet, remember)
        w.box.stop(self.turns.stop, queue=False, **quiet)
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
        w.look.click(self.pictures.look, w.box, [w.seen, w.notice, w.bad], **at_once).then(
            None, w.bad, js="omnilmm.remove", **quiet
        )
        w.refuse.click(self.pictures.refuse, w.refused, w.notice, js="() => [omnilmm.refused()]", **at_once)
        w.hush.click(None, None, w.notice, js="() => ['']", **quiet)
        w.newest.click(None, js="omnilmm.toNewest", **quiet)
        w.stop_anywhere.click(None, js="omnilmm.stop", **quiet)
        w.camera.click(self.pictures.show_camera, outputs=w.camera_panel, queue=False, **quiet)
        w.photo.input(self.pictures.attach, [w.photo, w.box], [w.box, w.photo, w.camera_panel], **at_once)
        w.mode.change(self.choices.show_controls, w.mode, w.columns, queue=False, **quiet)
        w.reset.click(self.choices.reset, outputs=[widget for _, _, widget in w.controls], queue=False, **quiet)
        for button, handler in (
            (w.export_json, self.conversations.export_json),
            (w.export_markdown, self.conversations.export_markdown),
        ):
            button.click(handler, outputs=w.file, **at_once).then(None, w.file, js="omnilmm.save", **quiet)
        model = [*turn, w.picker, w.dtype, w.best, w.best_reason, w.about, w.system]
        model += [widget for _, _, widget in w.controls]
        self._wire_models(turn, model, at_once, quiet)
        said = list({widget: None for widget, _ in w.said} | dict.fromkeys([*turn, *model]))
        w.language.input(self.speak, w.language, said, js="omnilmm.choose", **at_once)
        self.demo.load(
            self.arrive, [w.memory, w.chosen_language], said, js="() => omnilmm.remembered()", **at_once
        ).then(None, w.language, js="omnilmm.speak", **quiet).then(**remember)
        self.demo.unload(self.leave)

    def _wire_models(self, turn: list[Any], model: list[Any], at_once: Any, quiet: Any) -> None:
        """Choosing another model, and hearing how that goes."""
        w = self.widgets
        w.switch.click(self.choices.switch, [w.picker, w.dtype], model, **at_once)
        for button in (w.best, w.take_offer):
            button.click(self.choices.switch_to_best, outputs=model, **at_once)
        w.cancel_change.click(self.choices.cancel, outputs=turn, **at_once)
        w.ticks.tick(self.choices.show_model, outputs=model, queue=False, **quiet)

    def _wire_past(self, painted: list[Any], at_once: Any, quiet: Any, remember: Any) -> None:
        """The chats that the browser keeps: emptied here once it has them, since Gradio would keep them, too."""
        w = self.widgets
        empty = quiet | {"fn": lambda: None, "queue": False}
        w.keep.click(self.past.give, w.has, w.sheet, js="() => omnilmm.has()", **at_once).then(
            None, w.sheet, js="omnilmmHistory.store", **quiet
        ).then(outputs=w.sheet, **empty).then(None, js="omnilmmHistory.kept", **quiet)
        w.open_past.click(
            self.past.open, w.opened, [*painted, w.sheet_before], js="() => omnilmm.opened()", **at_once
        ).then(None, w.sheet_before, js="omnilmmHistory.store", **quiet).then(outputs=w.sheet_before, **empty).then(
            **remember
        )

    def arrive(self, request: gr.Request, memory: str, language: str) -> Painted:
        """The page was opened, or loaded anew: in the visitor's language, with what they had before."""
        visit = self.shared.visit(request)
        visit.session.texts = texts_for(language or request.headers.get("accept-language"))
        notice = self.visits.come_back(visit, memory)
        return merged(self._spoken(visit, notice), self.choices.settings(visit))

    async def leave(self, request: gr.Request) -> None:
        """The tab was closed or loaded anew: its answer stops, and its conversation is kept for a while."""
        key = str(request.session_hash)
        self.demo.state_holder.session_data.pop(key, None)  # Gradio's own copy of all that the widgets showed
        await asyncio.to_thread(self.visits.close, key)

    def speak(self, request: gr.Request, language: str) -> Painted:
        """Say everything in another language."""
        visit = self.shared.visit(request)
        visit.session.texts = texts_for(language)
        return merged(self._spoken(visit), self.choices.picker(visit))

    def _spoken(self, visit: Visit, notice: str = "") -> Painted:
        """The whole page in the visitor's language."""
        said = self.widgets.spoken(visit.session.texts, self.shared.provider.card)
        return merged(said, self.shared.paint(visit, notice=notice))
