"""The models and dtypes that visitors can choose from, as both pages offer them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from omnilmm.catalog import ModelCard, cards
from omnilmm.engine.choosing import ListedModel, best
from omnilmm.engine.provider import ModelProvider

LOOKED_UP_S = 30.0  # free memory and the models on the disk change


class Offer:
    """Inspects this machine at intervals, for all visitors together.

    Args:
        listed: returns all models with what is known about them on this machine; its argument is the number of bytes
            that the current model takes, which would be free.
        dtypes: returns the dtypes that are possible here; None where the dtype cannot be chosen.
        can_be_here: whether a model is on this disk, or can be downloaded as far as is known.

    Attributes:
        has_dtypes: whether the dtype can be chosen.
    """

    def __init__(
        self,
        listed: Callable[[int], Sequence[ListedModel]],
        dtypes: Callable[[], Sequence[str]] | None = tuple,
        can_be_here: Callable[[ListedModel], bool] = lambda _: True,
    ) -> None:
        self._look, self._dtypes, self._can_be_here = listed, dtypes or tuple, can_be_here
        self.has_dtypes = dtypes is not None
        self._lock = threading.Lock()
        self._found: tuple[ListedModel, ...] = ()
        self._possible: tuple[str, ...] = ()
        self._best: ListedModel | None = None
        self._at: tuple[int, float] = (-1, 0.0)  # version of the model at the last inspection, and its time

    def models(self, provider: ModelProvider) -> tuple[ListedModel, ...]:
        """Return all models; none while one is loaded, when an inspection takes long and says little."""
        if not provider.is_ready and provider.is_changing:
            return ()
        with self._lock:
            version, looked_s = self._at
            if version != provider.version or time.monotonic() - looked_s > LOOKED_UP_S:
                self._found = tuple(self._look(provider.memory_bytes or 0))
                self._possible = ("auto", *self._dtypes())
                self._best = best([entry for entry in self._found if self._can_be_here(entry)])
                self._at = (provider.version, time.monotonic())
            return self._found

    def dtypes(self, provider: ModelProvider) -> tuple[str, ...]:
        """Return the dtypes that can be chosen, beginning with "auto"."""
        return self._possible if self.models(provider) else ("auto",)

    def best(self, provider: ModelProvider) -> ListedModel | None:
        """Return the model that one click chooses: the best that fits and has no known obstacle."""
        return self._best if self.models(provider) else None

    def better(self, provider: ModelProvider) -> ListedModel | None:
        """Return the best model if it is not the current one; None if there is nothing to offer in its place.

        The quality of a model from a folder is unknown, and a model that knows drawings only is never offered.
        """
        found, now = self.best(provider), provider.card.name
        is_offered = found is not None and not found.card.drawings_only and now != found.card.name and now in cards()
        return found if is_offered else None

    def fits(self, provider: ModelProvider, model: object) -> str | None:
        """Return the dtype in which a model is offered."""
        return next((entry.fits for entry in self.models(provider) if entry.card.name == model), None)


def choosable(listed: Sequence[ListedModel], now: ModelCard) -> dict[str, ListedModel | ModelCard]:
    """Return the entries of a picker by name; a folder, which is in no list, is included, so that it is never empty."""
    known: dict[str, ListedModel | ModelCard] = {entry.card.name: entry for entry in listed}
    known = known or dict(cards().items())
    return known if now.name in known else {now.name: now, **known}
