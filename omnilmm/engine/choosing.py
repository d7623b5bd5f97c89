"""The models that a program can choose from: which fit this machine, and one of them loaded in the background.

Nothing heavy is imported before it is asked for, so that a page can be served first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omnilmm.catalog import ModelCard, cards, find
from omnilmm.engine.events import Engine
from omnilmm.engine.starting import StartingEngine
from omnilmm.hardware import on_zero_gpu, prepare_environment, resolve_device

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Listed:
    """One model and this machine.

    Attributes:
        card: the model.
        fits: the best number type in which it fits, None if in none or if its size is not known.
        is_here: its files are on this disk.
    """

    card: ModelCard
    fits: str | None
    is_here: bool


def free_bytes(device: str) -> int | None:
    """Memory that is free on a device, `auto` for the one that would be taken; None if that is not known."""
    from omnilmm.engine.memory import free_memory

    return free_memory(resolve_device(device).value)


def listed(device: str, hub: Literal["huggingface", "modelscope"]) -> list[Listed]:
    """All models of the catalog.

    Args:
        device: on which they would run.
        hub: from which they would come.
    """
    from omnilmm.engine.fetching import cached

    free = free_bytes(device)
    return [
        Listed(
            card,
            None if free is None else card.best_dtype(free / 2**30),
            Path(card.location).is_dir() or cached(card.source, card.revision, hub) is not None,
        )
        for card in cards().values()
    ]


def best_fitting(models: Sequence[Listed]) -> ModelCard | None:
    """The largest model that fits this machine."""
    return max((entry.card for entry in models if entry.fits), key=lambda card: card.parameters or 0, default=None)


def starting(model: str, arguments: Mapping[str, Any], report: Report) -> StartingEngine:
    """The engine of a model, which is loaded in the background; on ZeroGPU at once and on this thread.

    Args:
        model: its name, hub id, or folder.
        arguments: as for `load_engine`, but the model.
        report: is told downloaded bytes, and all bytes.
    """

    def load(heard: Report) -> Engine:
        prepare_environment(arguments["device"])  # before torch is imported
        from omnilmm.engine.space import load_page_engine

        def both(done: int, total: int) -> None:
            report(done, total)
            heard(done, total)

        return load_page_engine(**{**arguments, "model": model}, report=both)

    if on_zero_gpu():  # wants the model before the page is served
        engine = load(lambda done, total: None)
        return StartingEngine(engine.card, lambda heard: engine)
    return StartingEngine(find(model), load)
