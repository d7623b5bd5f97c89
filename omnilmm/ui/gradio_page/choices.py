"""Event handlers for the choice of the model and its settings, and for the line about the model."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.engine.options import MODES, Mode
from omnilmm.errors import OmniLMMError
from omnilmm.ui.gradio_page.context import OUTDATED, PageContext, Updates, merged
from omnilmm.ui.gradio_page.visitors import Visitor


class Choices:
    """Event handlers; `page.Page` wires them."""

    def __init__(self, context: PageContext) -> None:
        self.context = context

    def switch(self, request: gr.Request, name: Any, dtype: Any) -> Updates:
        """Start a change of the model, for all visitors; `show_model` reports its progress."""
        visitor, notice = self.context.visitor(request), ""
        provider, offer = self.context.provider, self.context.offer
        if offer is not None:
            try:
                provider.switch(name, dtype, offer.fits(provider, name))
            except OmniLMMError as error:
                notice = visitor.session.texts.translate(error)
        rendered = self.context.render(visitor, notice=notice)
        # A change that has ended by now is rendered whole: later, the picker might have another choice in it already.
        # Asked for last: whoever reads above that it has ended may choose again.
        ended = {} if provider.is_changing else self._changes(visitor)
        return merged(rendered, ended)

    def switch_to_best(self, request: gr.Request) -> Updates:
        """Switch to the best model that fits."""
        offer = self.context.offer
        best = offer.best(self.context.provider) if offer is not None else None
        return self.switch(request, best.card.name if best else None, "auto")

    def cancel(self, request: gr.Request) -> Updates:
        """Cancel a change of the model; the current one stays."""
        if self.context.offer is not None:
            self.context.provider.cancel()
        return self.context.model(self.context.visitor(request))

    def show_model(self, request: gr.Request) -> Updates:
        """Render the status of the model; after a change, whoever started it, also the settings of the new model.

        The status is rendered each time: an update of another handler may reach the browser after a newer one.
        """
        visitor = self.context.visitor(request)
        return merged(self.context.model(visitor), self._changes(visitor))

    def _changes(self, visitor: Visitor) -> Updates:
        """Render what depends on the model, unless that was done for its state of now."""
        if visitor.model == self.context.state():
            return {}
        return merged(self.settings(visitor), self.context.conversation_update(visitor))

    def reset(self, request: gr.Request) -> Updates:
        """Reset every setting to the default of the model's makers."""
        w = self.context.widgets
        self.context.visitor(request).forget_detail()
        return w.defaults(self.context.provider.card) | {w.seen: OUTDATED}

    def show_controls(self, mode: Mode) -> list[Any]:
        """Show only the controls of one mode."""
        return [gr.Column(visible=mode == shown) for shown in MODES]

    def picker(self, visitor: Visitor) -> Updates:
        """Render the choice of models and dtypes."""
        provider, offer = self.context.provider, self.context.offer
        if offer is None:
            return {}
        w, texts, request = self.context.widgets, visitor.session.texts, provider.requested
        shown = request.model if request else provider.card.name  # the last choice, also while it is being loaded
        picker = w.choices(offer.models(provider), provider.card, shown, offer.better(provider), texts)
        dtype = request.dtype if request else "auto"
        return picker | w.dtypes(offer.dtypes(provider), dtype, texts, is_shown=offer.has_dtypes)

    def settings(self, visitor: Visitor) -> Updates:
        """Render what depends on the model; resets the settings to its defaults if they belong to another model."""
        w, card = self.context.widgets, self.context.provider.card
        visitor.model = self.context.state()
        system: dict[str, Any] = {"visible": card.system_prompt}
        if visitor.is_restored.is_set():
            system["value"] = visitor.session.conversation.system or ""
        known = card.model_copy(update={"parameters": None})  # those of a folder are counted when it is loaded
        before, visitor.card = visitor.card, known
        late = {"thinking": card.thinking, "max_slices": card.max_slices}  # known only after loading
        if before is None or before.model_copy(update=late) != known:
            defaults = w.defaults(card) | w.modes(card, visitor.session.texts)
        else:
            defaults = {} if before == known else w.switches(card)
        seen: Updates = {}
        if before != known:
            visitor.forget_detail()
            seen = {} if before is None else {w.seen: OUTDATED}
        return merged(
            defaults,
            seen,
            w.sight(card),
            self.picker(visitor),
            {w.system: gr.update(**system), w.about: visitor.session.texts.about(card)},
        )
