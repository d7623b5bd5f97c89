"""Lists the models to choose from: which of them fit this machine, and how fast they are.

Heavy imports are deferred until they are needed, so that a page can be served first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

from omnilmm.adapter_files import found_near, is_for, with_adapter
from omnilmm.catalog import PREFERENCE, Dtype, ModelCard, cards
from omnilmm.errors import CheckpointError, HardwareError
from omnilmm.hardware import resolve_device, resolve_dtype
from omnilmm.model_lookup import find

LEAST_TOKENS_PER_S = 3.0  # about reading-aloud speed; anything slower is not usable for a chat


@dataclass(frozen=True)
class ListedModel:
    """A model of the catalog and how it would run on this machine.

    Attributes:
        card: the model's card.
        fits: the dtype it would be loaded in; None if it fits in none, or if its size or the free memory is not known.
        is_here: whether its files are on this disk.
        tokens_per_s: estimated decoding speed in that dtype; None if it is not known.
        server: host and port of the server that it runs on; None for a model of this machine.
    """

    card: ModelCard
    fits: str | None
    is_here: bool
    tokens_per_s: float | None = None
    server: str | None = None

    @property
    def is_fast_enough(self) -> bool:
        """Whether it is fast enough for a chat; an unknown speed counts as fast enough."""
        return self.tokens_per_s is None or self.tokens_per_s >= LEAST_TOKENS_PER_S


def free_bytes(device: str) -> int | None:
    """Return the free memory of a device in bytes; "auto" means the one that would be used. None if not known."""
    from omnilmm.engine.placement.device_memory import free_memory

    return free_memory(resolve_device(device).value)


def listed(device: str, hub: Literal["huggingface", "modelscope"], freed_bytes: int = 0) -> list[ListedModel]:
    """Return all models of the catalog: those on this disk first, then those that fit, each ordered by quality.

    Models with an adapter that lies in the working folder are included.

    Args:
        device: the device they would run on.
        hub: the hub they would be downloaded from.
        freed_bytes: memory occupied by a model that would be unloaded.
    """
    from omnilmm.engine.fetching import cached
    from omnilmm.engine.speed import tokens_per_s

    free, place = free_bytes(device), resolve_device(device).value
    found = []
    for card in (*cards().values(), *adapted()):
        if card.family == "gguf":
            found.append(_listed_gguf(card, place, freed_bytes))
            continue
        fits = None if free is None else _fitting(card, place, (free + freed_bytes) / 2**30)
        is_here = Path(card.location).is_dir() or cached(card.source, card.revision_on(hub), hub) is not None
        found.append(ListedModel(card, fits, is_here, tokens_per_s(card, fits, place) if fits else None))
    return sorted(found, key=_place, reverse=True)


def _listed_gguf(card: ModelCard, device: str, freed_bytes: int) -> ListedModel:
    """Return how a model in GGUF would run; llama.cpp's usual package has Metal, but no CUDA."""
    from omnilmm.engine.fetching import sizes_in, snapshot_of
    from omnilmm.engine.llamacpp.files import candidates
    from omnilmm.engine.placement.device_memory import free_memory
    from omnilmm.engine.speed import tokens_per_s

    place = device if device == "mps" else "cpu"
    free = free_memory(place)
    room = -math.inf if free is None else (free + (freed_bytes if place == device else 0)) / 2**30
    fits = next((name for name, one in card.quantisations.items() if one.memory_gib <= room), None)
    folder = snapshot_of(card.source, card.revision)
    try:
        is_here = folder is not None and bool(candidates(card.source, sizes_in(folder)))
    except CheckpointError:
        is_here = False
    if fits:
        card = card.model_copy(update={"download_gib": card.quantisations[fits].download_gib})
    return ListedModel(card, fits, is_here, tokens_per_s(card, fits, place) if fits else None)


def can_be_here(entry: ListedModel, hub: Literal["huggingface", "modelscope"], *, offline: bool) -> bool:
    """Return whether a model is on this disk or can be downloaded, as far as is known without asking the hub.

    Args:
        entry: the model.
        hub: the hub it would be downloaded from.
        offline: whether the network must not be accessed.
    """
    from omnilmm.engine.fetching.cache import repository_of, require_space

    if entry.card.family == "gguf" and (find_spec("xllamacpp") is None or hub == "modelscope"):
        return False
    if entry.is_here or offline:
        return entry.is_here
    if hub == "modelscope":
        return find_spec("modelscope") is not None
    try:
        require_space(entry.card.title, int(entry.card.download_gib * 2**30), repository_of(entry.card.source))
    except CheckpointError:
        return False
    return True


def adapted() -> tuple[ModelCard, ...]:
    """Return the models of the catalog with each adapter for them in the working folder; it is searched once."""
    return _adapted(Path.cwd())


@lru_cache
def _adapted(place: Path) -> tuple[ModelCard, ...]:
    found = []
    for files in found_near(place):
        name = str(files.folder.relative_to(place))
        base = next((card for card in cards().values() if files.base and is_for(files, card.name, card.source)), None)
        with suppress(CheckpointError):
            found += [find(with_adapter(base.name, name))] if base else []
    return tuple(found)


def best(models: Sequence[ListedModel]) -> ListedModel | None:
    """Return the best model that fits this machine and is expected to be fast enough; None if there is none.

    Where there are files of it for llama.cpp, too, the faster ones count.
    """
    usable = [entry for entry in models if entry.fits and entry.is_fast_enough and not entry.card.adapter]
    found = max(usable, key=_rank, default=None)
    same = [entry for entry in usable if found and _model_of(entry.card) == _model_of(found.card)]
    return max(same, key=lambda entry: (entry.tokens_per_s or 0.0, entry is found), default=None)


def _model_of(card: ModelCard) -> str | None:
    return card.succeeds if card.family == "gguf" else card.name


def _fitting(card: ModelCard, device: str, free_gib: float) -> str | None:
    """Return the dtype chosen by "auto" if it fits, else the most precise supported dtype that does, or None."""
    possible = [found for kind in ("auto", *PREFERENCE) if (found := _resolved(kind, device, card))]
    return next((kind for kind in possible if card.memory_gib.get(cast(Dtype, kind), math.inf) <= free_gib), None)


def _resolved(dtype: str, device: str, card: ModelCard) -> str | None:
    try:
        return resolve_dtype(dtype, device, card.stored, card.parameters).value
    except HardwareError:
        return None


def _rank(entry: ListedModel) -> tuple[float, str, float]:
    """Return a sort key of quality: the model's figure, or that of the model it succeeds, or 0 if there is none.

    Ties go to the newer model, then to the one with more bytes per parameter, i.e. the more precise files.
    """
    card = figures = entry.card
    while figures.quality is None and figures.succeeds in cards():
        figures = cards()[figures.succeeds]
    figure = figures.quality.figure if figures.quality else 0.0
    return figure, card.released or "", card.download_gib / (card.parameters or math.inf)


def _place(entry: ListedModel) -> tuple[bool, bool, tuple[float, str, float]]:
    """Return the sort key of the list."""
    return entry.is_here, entry.fits is not None, _rank(entry)
