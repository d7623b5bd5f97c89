"""The types of a change of models: the request, its state, and the protocols `provider.py` needs to carry it out."""

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
    """A request to load a model.

    Attributes:
        model: name in `configs/`, hub id, or folder.
        dtype: "auto" or a dtype.
        fits: the dtype it is listed with on this machine, used if "auto" does not fit.
        substitute: whether, on a Space, the built-in model may replace it if it does not fit.
    """

    model: str
    dtype: str = "auto"
    fits: str | None = None
    substitute: bool = False


class Loadable(Protocol):
    """A model whose files are on this disk and have been checked; see `loading.Prepared`."""

    @property
    def card(self) -> ModelCard:
        """The model's card."""

    def load(self) -> Engine:
        """Load the weights; may be called again once the engine is freed."""


# Takes the request, the bytes that unloading the current model will free, and a progress callback. It unloads nothing.
Prepare = Callable[[ModelRequest, int, Report], Loadable]


@runtime_checkable
class SupportsWarmUp(Protocol):
    """An engine whose first answer is slower than later ones unless it is warmed up."""

    def warm_up(self) -> None:
        """Run the one-time initialisation; requests are accepted meanwhile."""


@runtime_checkable
class SupportsClose(Protocol):
    """An engine with resources that are not freed with its last reference, such as a process."""

    def close(self) -> None:
        """Free them; answers in progress break off."""


@dataclass(frozen=True)
class Change:
    """The state of a change of models.

    Attributes:
        card: the requested model.
        before: the previous model; None for the first model.
        stage: "checking" and "downloading" while the old model answers, "cancelling", "ending" while its answers
            finish, "loading" and "restoring" while no model answers; then "done", "cancelled" or "failed" (nothing has
            changed), "restored" (the old model was loaded again), "lost" (no model is loaded).
        progress: bytes downloaded and bytes in total.
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
