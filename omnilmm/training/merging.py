"""Merge an adapter into its base model, and save the result as a whole checkpoint in the hub's own form.

The merged weights are rounded to the dtype of the files, so the result differs a little from base and adapter side by
side; `merge` measures how much on one prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from omnilmm.adapter_files import read_adapter
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.adapters import attach
from omnilmm.engine.events import Report
from omnilmm.errors import CheckpointError, InputError
from omnilmm.hardware import QUANTISED
from omnilmm.training.adapters import save
from omnilmm.training.base import load_trainable
from omnilmm.training.files import writing

PROMPT = "What is in this picture?"


def merge(
    adapter: Path, out: Path, *, model: str | None = None, dtype: str = "bf16", report: Report | None = None
) -> float:
    """Merge an adapter and save the whole model.

    Args:
        adapter: folder of the adapter.
        out: new folder of the checkpoint.
        model: the base model; by default the one that the adapter names.
        dtype: dtype of the files.
        report: called with the bytes of a download.

    Returns:
        The largest difference of a logit on one prompt, between adapter and merged model.

    Raises:
        OmniLMMError: The adapter or its base cannot be loaded, or the folder cannot be written.
    """
    base = model or read_adapter(str(adapter)).base
    if base is None:
        raise InputError("adapter_without_base", name=adapter)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out_not_empty", out=out)
    engine = load_trainable(base, "cpu", dtype, report=report)
    if engine.card.stored in QUANTISED:
        raise CheckpointError("merge_into_quantised", title=engine.card.title)
    # Both are compared with float32 computations, so that only the rounding of the weights counts.
    apart = attach(engine.model.float(), adapter, is_merged=False)
    before = _logits(apart, engine.processor)
    del apart, engine
    engine = load_trainable(base, "cpu", dtype, adapter=str(adapter))
    with writing(out):
        save(engine.model, out, engine.processor)
    return float((before - _logits(engine.model.float(), engine.processor)).abs().max())


@torch.no_grad()
def _logits(model: Any, processor: Any) -> torch.Tensor:
    """Return the logits [1, S, V] of a question about a grey picture."""
    asked = Conversation().with_message("user", Picture(Image.new("RGB", (64, 64), "grey")), PROMPT)
    logits: torch.Tensor = model(**processor.inputs(asked)).logits
    return logits
