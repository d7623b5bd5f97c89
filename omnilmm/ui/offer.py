"""The models and dtypes that visitors can choose from, as both pages offer them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from omnilmm.catalog import ModelCard, cards
from omnilmm.engine.choosing import ListedModel, best
from omnilmm.engine.provider import ModelProvider

LOOKED_UP_S = 30.0  # what is free, and what is on the disk, changes


class Offer:
    """Looks at this machine once in a while, for all visitors together.

    Args:
        listed: gives all models with what is known about this machine; is told how many bytes the model of now takes,
            which would be free.
        dtypes: gives the dtypes that are possible here.
        can_be_here: whether a model is on this disk, or can be fetched as far as is known.
    """

    def __init__(
        self,
        listed: Callable[[int], Sequence[ListedModel]],
        dtypes: Callable[[], Sequence[str]] = tuple,
        can_be_here: Callable[[ListedModel], bool] = lambda _: True,
    ) -> None:
        self._look, self._dtypes, self._can_be_here = listed, dtypes, can_be_here
        self._lock = threading.Lock()
        self._found: tuple[ListedModel, ...] = ()
        self._possible: tuple[str, ...] = ()
        self._best: ListedModel | None = None
        self._at: tuple[int, float] = (-1, 0.0)  # which model answered then, and when

    def models(self, provider: ModelProvider) -> tuple[ListedModel, ...]:
        """All of them; none while one is loaded, since looking at the machine takes long then and says little."""
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
        """What can be chosen, beginning with "auto"."""
        return self._possible if self.models(provider) else ("auto",)

    def best(self, provider: ModelProvider) -> ListedModel | None:
        """What one click chooses: the best that fits and that nothing known stands in the way of."""
        return self._best if self.models(provider) else None

    def better(self, provider: ModelProvider) -> ListedModel | None:
        """The best, where it is another one than the model of now; None where there is nothing to offer in its place.

        Of a folder nobody knows how good it is, and a model that knows drawings only takes no other one's place.
        """
        found, now = self.best(provider), provider.card.name
        is_offered = found is not None and not found.card.drawings_only and now != found.card.name and now in cards()
        return found if is_offered else None

    def fits(self, provider: ModelProvider, model: object) -> str | None:
        """The dtype in which a model is offered."""
        return next((entry.fits for entry in self.models(provider) if entry.card.name == model), None)


def choosable(listed: Sequence[ListedModel], now: ModelCard) -> dict[str, ListedModel | ModelCard]:
    """What a picker holds by name, so that it is never empty: a folder, which is in no list, too."""
    known: dict[str, ListedModel | ModelCard] = {entry.card.name: entry for entry in listed}
    known = known or dict(cards().items())
    return known if now.name in known else {now.name: now, **known}
