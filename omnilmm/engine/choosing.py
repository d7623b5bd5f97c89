"""The models that a program can choose from: which fit this machine, and how fast they are.

Nothing heavy is imported before it is asked for, so that a page can be served first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

from omnilmm.catalog import PREFERENCE, Dtype, ModelCard, cards
from omnilmm.errors import CheckpointError, HardwareError
from omnilmm.hardware import resolve_device, resolve_dtype

LEAST_TOKENS_PER_S = 3.0  # about as fast as one reads aloud; below that nobody waits for an answer


@dataclass(frozen=True)
class ListedModel:
    """One model and this machine.

    Attributes:
        card: the model.
        fits: the dtype in which it would be loaded, None if it fits in none or if its size is not known.
        is_here: its files are on this disk.
        tokens_per_s: of an answer in that dtype, about; None if that is not known.
    """

    card: ModelCard
    fits: str | None
    is_here: bool
    tokens_per_s: float | None = None

    @property
    def is_fast_enough(self) -> bool:
        """Whether it can be talked with; what is not known is not held against it."""
        return self.tokens_per_s is None or self.tokens_per_s >= LEAST_TOKENS_PER_S


def free_bytes(device: str) -> int | None:
    """Memory that is free on a device, `auto` for the one that would be taken; None if that is not known."""
    from omnilmm.engine.placement.device_memory import free_memory

    return free_memory(resolve_device(device).value)


def listed(device: str, hub: Literal["huggingface", "modelscope"], freed_bytes: int = 0) -> list[ListedModel]:
    """All models of the catalog: those on this disk first, then those that fit, the better ones first.

    Args:
        device: on which they would run.
        hub: from which they would come.
        freed_bytes: of memory that a model takes now which would be let go.
    """
    from omnilmm.engine.fetching import cached
    from omnilmm.engine.speed import tokens_per_s

    free, place = free_bytes(device), resolve_device(device).value
    found = []
    for card in cards().values():
        fits = None if free is None else _fitting(card, place, (free + freed_bytes) / 2**30)
        is_here = Path(card.location).is_dir() or cached(card.source, card.revision, hub) is not None
        found.append(ListedModel(card, fits, is_here, tokens_per_s(card, fits, place) if fits else None))
    return sorted(found, key=_place, reverse=True)


def can_be_here(entry: ListedModel, hub: Literal["huggingface", "modelscope"], *, offline: bool) -> bool:
    """Whether a model is on this disk, or can be fetched as far as is known without asking the hub.

    Args:
        entry: the model.
        hub: from which it would come.
        offline: no network is to be touched.
    """
    from omnilmm.engine.fetching.cache import repository_of, require_space

    if entry.is_here or offline:
        return entry.is_here
    if hub == "modelscope":
        return find_spec("modelscope") is not None
    try:
        require_space(entry.card.title, int(entry.card.download_gib * 2**30), repository_of(entry.card.source))
    except CheckpointError:
        return False
    return True


def best(models: Sequence[ListedModel]) -> ListedModel | None:
    """The best of the models that fit this machine and are expected to answer fast enough; None if there is none."""
    return max((entry for entry in models if entry.fits and entry.is_fast_enough), key=_rank, default=None)


def _fitting(card: ModelCard, device: str, free_gib: float) -> str | None:
    """What "auto" takes, if it fits; else the most exact smaller dtype that does and is possible here."""
    possible = [found for kind in ("auto", *PREFERENCE) if (found := _resolved(kind, device, card))]
    return next((kind for kind in possible if card.memory_gib.get(cast(Dtype, kind), math.inf) <= free_gib), None)


def _resolved(dtype: str, device: str, card: ModelCard) -> str | None:
    try:
        return resolve_dtype(dtype, device, card.stored, card.parameters).value
    except HardwareError:
        return None


def _rank(entry: ListedModel) -> tuple[float, str, float]:
    """How good a model is: by its figure, without one by that of the model it succeeds, or below all that have one.

    Among equals the younger one is better, and of the same age the one whose files are more exact.
    """
    card = figures = entry.card
    while figures.quality is None and figures.succeeds in cards():
        figures = cards()[figures.succeeds]
    figure = figures.quality.figure if figures.quality else 0.0
    return figure, card.released or "", card.download_gib / (card.parameters or math.inf)


def _place(entry: ListedModel) -> tuple[bool, bool, tuple[float, str, float]]:
    """In the list."""
    return entry.is_here, entry.fits is not None, _rank(entry)
