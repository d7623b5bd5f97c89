"""Which model answers, and how: the picker, what there is to set, and the line about the model."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.engine.choosing import Listed, best_fitting
from omnilmm.engine.options import Mode
from omnilmm.ui.gradio_page.shared import Painted, Shared, merged
from omnilmm.ui.gradio_page.visits import Visit
from omnilmm.ui.gradio_page.widgets import MODES


class Choices:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def switch(self, request: gr.Request, name: str | None) -> Painted:
        """Another model answers from now on, for everybody; conversations stay as they are."""
        visit = self.shared.visit(request)
        if self.shared.models is None or not name or (name == self.shared.engine.card.name and self.shared.is_ready):
            return self.shared.paint(visit)
        for other in self.shared.visits:
            other.session.stop()
        if release := getattr(self.shared.engine, "release", None):  # before the next one needs its memory
            release()
        self.shared.engine = self.shared.models.make(name)
        notice = visit.session.texts.switched.format(model=self.shared.engine.card.title)
        return self.shared.paint(visit, notice=notice) | self.settings(visit)

    def switch_to_best(self, request: gr.Request) -> Painted:
        """The best model that fits answers from now on."""
        best = best_fitting(self._listed())
        return self.switch(request, best.name if best else None)

    def show_model(self, request: gr.Request) -> Painted:
        """How far the model is; once it is there, also what it can."""
        visit, w = self.shared.visit(request), self.shared.widgets
        painted = self.shared.model(visit)
        return (
            painted | self.picker(visit) | {w.about: visit.session.texts.about(self.shared.engine.card)}
            if self.shared.is_ready
            else painted
        )

    def reset(self) -> Painted:
        """Every setting as the makers of the model chose it."""
        return self.shared.widgets.defaults(self.shared.engine.card)

    def show_controls(self, mode: Mode) -> list[Any]:
        """Show the controls of a mode alone."""
        return [gr.Column(visible=mode == shown) for shown in MODES]

    def _listed(self) -> list[Listed]:
        return self.shared.models.listed() if self.shared.models is not None and self.shared.is_ready else []

    def picker(self, visit: Visit) -> Painted:
        """What can be chosen; left as it is while a model is loaded, since looking at this machine takes long then."""
        listed = self._listed()
        return self.shared.widgets.choices(listed, self.shared.engine.card, visit.session.texts) if listed else {}

    def settings(self, visit: Visit) -> Painted:
        """What depends on which model answers, at its defaults."""
        w, card = self.shared.widgets, self.shared.engine.card
        system = gr.update(visible=card.system_prompt, value=visit.session.conversation.system or "")
        about = visit.session.texts.about(card)
        return merged(w.defaults(card), self.picker(visit), {w.system: system, w.about: about})
