"""A model that is fetched, loaded and asked as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from omnilmm.catalog import ModelCard
from omnilmm.engine.change import ModelRequest, Report
from omnilmm.engine.events import Engine
from omnilmm.engine.provider import ModelProvider
from tests.waiting import HOLD_S


@dataclass
class Gate:
    """One model: its download stands at 3 of 12 GiB, then its loading, until the test lets each go on.

    Attributes:
        make: gives the engine.
        refusal: why it cannot be fetched.
        breaks: why it cannot be loaded, once for each; the next time it can.
        reported, loading: set when the download has begun, and the loading.
        open, loads: let them go on; open to begin with unless the test closes them.
        wishes: with which it was asked for, and the memory that would be free.
    """

    make: Callable[[], Engine]
    refusal: Exception | None = None
    breaks: list[Exception] = field(default_factory=list)
    reported: threading.Event = field(default_factory=threading.Event)
    loading: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)
    loads: threading.Event = field(default_factory=threading.Event)
    wishes: list[tuple[ModelRequest, int]] = field(default_factory=list)
    loaded: int = 0

    def __post_init__(self) -> None:
        self.open.set()
        self.loads.set()

    def prepare(self, request: ModelRequest, freed_bytes: int, report: Report) -> Gate:
        """See `change.Prepare`."""
        self.wishes.append((request, freed_bytes))
        while True:
            report(3 * 2**30, 12 * 2**30)
            self.reported.set()
            if self.open.wait(0.02):
                break
        if self.refusal:
            raise self.refusal
        report(12 * 2**30, 12 * 2**30)
        return self

    @property
    def card(self) -> ModelCard:
        """Of the model."""
        return self.make().card

    def load(self) -> Engine:
        """See `change.Loadable`."""
        self.loading.set()
        assert self.loads.wait(HOLD_S)
        self.loaded += 1
        if self.breaks:
            raise self.breaks.pop(0)
        return self.make()


def provider_of(gates: Mapping[str, Gate], first: str = "") -> ModelProvider:
    """One that can choose between these, by the names of their cards.

    Args:
        gates: the models.
        first: which one to begin with.
    """
    provider = ModelProvider(lambda request, freed, report: gates[request.model].prepare(request, freed, report), gates)
    if first:
        provider.begin(ModelRequest(first))
    return provider
