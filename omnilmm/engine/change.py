"""What a change of models is: the request, how far it has come, and what it takes to carry it out (`provider.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from omnilmm.catalog import ModelCard
from omnilmm.engine.events import Engine, Report
from omnilmm.errors import OmniLMMError

Stage = Literal[
    "checking",
    "downloading",
    "cancelling",
    "ending",
    "loading",
    "restoring",
    "done",
    "cancelled",
    "failed",
    "restored",
    "lost",
]
OVER: tuple[Stage, ...] = ("done", "cancelled", "failed", "restored", "lost")
CANCELLABLE: tuple[Stage, ...] = ("checking", "downloading")


@dataclass(frozen=True)
class ModelRequest:
    """Which model, and how.

    Attributes:
        model: name in `configs/`, hub id, or folder.
        dtype: "auto" or a dtype.
        fits: the dtype in which it is offered here, for where "auto" alone would not fit.
        substitute: on a Space, the built-in model may take its place if it does not fit.
    """

    model: str
    dtype: str = "auto"
    fits: str | None = None
    substitute: bool = False


class Loadable(Protocol):
    """A model whose files are here, checked as far as that goes; see `loading.Prepared`."""

    @property
    def card(self) -> ModelCard:
        """Of the model."""

    def load(self) -> Engine:
        """Load the weights; may be called again when the engine is gone."""


# Given the memory that the model of now takes, which will be free, and whom to report bytes to. It lets go of nothing.
Prepare = Callable[[ModelRequest, int, Report], Loadable]


@runtime_checkable
class SupportsWarmUp(Protocol):
    """An engine whose first answer takes longer than the others, unless it is warmed up."""

    def warm_up(self) -> None:
        """Do what is done only once; others can ask meanwhile."""


@dataclass(frozen=True)
class Change:
    """How far a change of models is, or how it ended.

    Attributes:
        card: of the model that was wanted.
        before: of the one that answered before; None for the first model of all.
        stage: "checking" and "downloading" while the old one answers, "cancelling", "ending" while its answers end,
            "loading" and "restoring" while nobody answers; then "done", "cancelled" or "failed" (nothing has changed),
            "restored" (the old one was loaded again), "lost" (no model answers).
        progress: bytes done, and in all, of a download.
        failure: why it failed.
    """

    card: ModelCard
    before: ModelCard | None = None
    stage: Stage = "checking"
    progress: tuple[int, int] = (0, 0)
    failure: OmniLMMError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.stage in OVER

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the old model can still stay."""
        return self.stage in CANCELLABLE
