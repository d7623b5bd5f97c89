"""Merge an adapter into its base model, and save the result as a whole checkpoint in the hub's own form.

The base is loaded once, in float32, for which `prepare` checks the memory. The merged weights are rounded to the dtype
of the files, so the result differs a little from base and adapter side by side; `merge` measures how much on one
prompt, computed in float32 so that only the rounding counts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from omnilmm.adapter_files import read_adapter, with_adapter
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.adapters import wrap
from omnilmm.engine.events import Report
from omnilmm.engine.fetching import Hub
from omnilmm.engine.load_errors import explained
from omnilmm.engine.loading import Prepared, prepare
from omnilmm.errors import CheckpointError, InputError
from omnilmm.hardware import DTYPES, QUANTISED
from omnilmm.model_lookup import find
from omnilmm.training.adapters import save
from omnilmm.training.files import writing

PROMPT = "What is in this picture?"


def merge(
    adapter: Path,
    out: Path,
    *,
    model: str | None = None,
    dtype: str = "bf16",
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    report: Report | None = None,
) -> float:
    """Merge an adapter and save the whole model.

    Args:
        adapter: folder of the adapter.
        out: new folder of the checkpoint.
        model: the base model; by default the one that the adapter names.
        dtype: dtype of the files.
        revision: commit, tag or branch of the base; by default the commit that the adapter names, on its hub.
        hub: the hub to download the base from.
        offline: do not access the network.
        report: called with the bytes of a download.

    Returns:
        The largest difference of a logit on one prompt, between adapter and merged model.

    Raises:
        OmniLMMError: The adapter or its base cannot be loaded, or the folder cannot be written.
    """
    files = read_adapter(str(adapter))
    base = model or files.base
    if base is None:
        raise InputError("adapter_without_base", name=adapter)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out_not_empty", out=out)
    _check_base(base, adapter)
    prepared = prepare(
        base, "cpu", "fp32", adapter=str(adapter), revision=revision, hub=hub, offline=offline, report=report
    )
    if not isinstance(prepared, Prepared) or prepared.card.family == "library":
        raise CheckpointError("not_trained_here", title=prepared.card.title)
    engine = replace(prepared, card=prepared.card.model_copy(update={"adapter": None})).load()
    with explained(prepared.card, prepared.folder):
        wrapped = wrap(engine.model, adapter)
        before = _logits(wrapped.get_base_model(), engine.processor)
        merged = wrapped.merge_and_unload(safe_merge=True)
        _round(merged, getattr(torch, DTYPES[dtype]))
    with writing(out):
        save(merged, out, engine.processor)
    _round(merged, torch.float32)
    return float((before - _logits(merged, engine.processor)).abs().max())


def _check_base(base: str, adapter: Path) -> None:
    """Check, as far as is known before a download, that the adapter is for the base, and that it can be merged into."""
    card = find(with_adapter(base, str(adapter)))
    if card.stored in QUANTISED:
        raise CheckpointError("merge_into_quantised", title=card.title)


def _round(model: Any, dtype: torch.dtype) -> None:
    """Convert the weights one by one, so that there is no second model; tables computed at loading stay as they are."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


@torch.no_grad()
def _logits(model: Any, processor: Any) -> torch.Tensor:
    """Return the logits [1, S, V] of a question about a grey picture."""
    asked = Conversation().with_message("user", Picture(Image.new("RGB", (64, 64), "grey")), PROMPT)
    logits: torch.Tensor = model(**processor.inputs(asked)).logits
    return logits
