"""The base model of a training: its card, files, configuration and processor, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.engine.events import Report
from omnilmm.engine.fetching import Hub, fetch
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.preflight import card_of
from omnilmm.engine.runnable import check_runs
from omnilmm.errors import CheckpointError
from omnilmm.hub_cache import cached_commit
from omnilmm.model_lookup import find


@dataclass(frozen=True)
class Base:
    """A checkpoint on this disk.

    Attributes:
        card: its card.
        folder: folder of its files.
        config, processor: its configuration and processor.
        revision: commit of its files, or what was asked for where the hub does not tell it; None for other folders.
    """

    card: ModelCard
    folder: Path
    config: Any
    processor: Any
    revision: str | None = None


def open_base(
    model: str,
    *,
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    report: Report | None = None,
) -> Base:
    """Find a model, download it if it is missing, and read its configuration and processor.

    Raises:
        OmniLMMError: There is no such model, or its files cannot be used.
    """
    card = find(model)
    if card.family == "gguf":
        raise CheckpointError("not_trained_here", title=card.title)
    folder = Path(card.location)
    if folder.is_dir():
        revision = None
    else:
        revision = revision or card.revision
        folder = fetch(card.source, title=card.title, revision=revision, hub=hub, offline=offline, report=report)
        card = card_of(card, folder)
    check_runs(card.source, folder)
    if card.family == "library":
        raise CheckpointError("not_trained_here", title=card.title)

    from transformers import AutoConfig

    from omnilmm.models.library import LOCAL, load_processor

    commit = cached_commit(folder) or revision
    return Base(card, folder, AutoConfig.from_pretrained(folder, **LOCAL), load_processor(folder), commit)


def load_trainable(model: str, device: str, dtype: str, **arguments: Any) -> LocalEngine:
    """Load a model as `load_engine` does, if it is one of this package.

    Raises:
        CheckpointError: It runs in another way, which cannot be trained.
    """
    engine = load_engine(model, device, dtype, **arguments)
    if not isinstance(engine, LocalEngine):
        raise CheckpointError("not_trained_here", title=engine.card.title)
    return engine
