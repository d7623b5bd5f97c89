"""From the name of a model to an engine that answers with it."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError

from omnilmm.catalog import BUILT_IN, find
from omnilmm.engine.local import LocalEngine
from omnilmm.errors import CheckpointError
from omnilmm.hardware import DTYPES, resolve_device, resolve_dtype


def load_engine(model: str = BUILT_IN, device: str = "auto", dtype: str = "auto") -> LocalEngine:
    """Load a model.

    Args:
        model: name in `configs/`, hub id, or folder.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto", "bf16", "fp16" or "fp32".

    Raises:
        ModelNotFoundError: No such model.
        HardwareError: No such device, or a number type that it cannot compute with.
        CheckpointError: Files that are missing, damaged or do not fit together.
    """
    card = find(model)
    device_choice = resolve_device(device)
    dtype_choice = resolve_dtype(dtype, device_choice.value)
    # Without it, a repository that has only pickles starts a thread that asks a service to convert them.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    is_local = Path(card.location).is_dir()
    arguments = {"trust_remote_code": False, "local_files_only": is_local}
    try:
        processor = AutoProcessor.from_pretrained(card.location, **arguments)
        loaded = AutoModelForImageTextToText.from_pretrained(
            card.location, dtype=getattr(torch, DTYPES[dtype_choice.value]), **arguments
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        where = card.location if is_local else f"{card.source} (from the hub)"
        raise CheckpointError(
            f"The model {card.name!r} cannot be loaded from {where}: {_first_line(error)} "
            "Check that its files are complete, or fetch them again."
        ) from error
    return LocalEngine(loaded.to(device_choice.value).eval(), processor, card, device_choice, dtype_choice)


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith(".") else f"{line}."
