"""Which model answers, and how: the picker, what there is to set, and the line about the model."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.engine.options import Mode
from omnilmm.errors import OmniLMMError
from omnilmm.ui.gradio_page.shared import Painted, Shared, merged
from omnilmm.ui.gradio_page.visits import Visit
from omnilmm.ui.gradio_page.widgets import MODES


class Choices:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def switch(self, request: gr.Request, name: Any, dtype: Any) -> Painted:
        """Another model shall answer, for everybody: begins it, `show_model` tells how it goes."""
        visit, notice = self.shared.visit(request), ""
        provider, offer = self.shared.provider, self.shared.offer
        if offer is not None:
            try:
                provider.switch(name, dtype, offer.fits(provider, name))
            except OmniLMMError as error:
                notice = visit.session.texts.told(error)
        return self.shared.paint(visit, notice=notice)

    def switch_to_best(self, request: gr.Request) -> Painted:
        """The best model that fits shall answer."""
        offer = self.shared.offer
        best = offer.best(self.shared.provider) if offer is not None else None
        return self.switch(request, best.card.name if best else None, "auto")

    def cancel(self, request: gr.Request) -> Painted:
        """The model of now stays."""
        if self.shared.offer is not None:
            self.shared.provider.cancel()
        return self.shared.model(self.shared.visit(request))

    def show_model(self, request: gr.Request) -> Painted:
        """Whatever there is to say about the model; after a change, whoever began it, also what the new one can.

        Painted anew each time: what another handler painted may reach the browser after what is newer.
        """
        visit = self.shared.visit(request)
        before = visit.model
        painted = self.shared.model(visit)
        if before == self.shared.state():
            return painted
        return merged(painted, self.settings(visit), self.shared.talk(visit))

    def reset(self) -> Painted:
        """Every setting as the makers of the model chose it."""
        return self.shared.widgets.defaults(self.shared.provider.card)

    def show_controls(self, mode: Mode) -> list[Any]:
        """Show the controls of a mode alone."""
        return [gr.Column(visible=mode == shown) for shown in MODES]

    def picker(self, visit: Visit) -> Painted:
        """What can be chosen."""
        provider, offer = self.shared.provider, self.shared.offer
        if offer is None:
            return {}
        w, texts, wish = self.shared.widgets, visit.session.texts, provider.wish
        shown = wish.model if wish else provider.card.name  # what was chosen last, also while it is on its way
        picker = w.choices(offer.models(provider), provider.card, shown, offer.better(provider), texts)
        return picker | w.number_types(offer.dtypes(provider), wish.dtype if wish else "auto", texts)

    def settings(self, visit: Visit) -> Painted:
        """What depends on which model answers; the settings at its defaults, unless they are its own already."""
        w, card = self.shared.widgets, self.shared.provider.card
        visit.model = self.shared.state()
        system = gr.update(visible=card.system_prompt, value=visit.session.conversation.system or "")
        known = card.model_copy(update={"parameters": None})  # of a folder they are counted when it is loaded
        defaults = {} if visit.card == known else w.defaults(card)
        visit.card = known
        return merged(defaults, self.picker(visit), {w.system: system, w.about: visit.session.texts.about(card)})
