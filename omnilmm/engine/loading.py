"""From the name of a model to an engine that answers with it."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError

from omnilmm.catalog import BUILT_IN, ModelCard, find
from omnilmm.engine.local import LocalEngine
from omnilmm.errors import CheckpointError
from omnilmm.hardware import DTYPES, resolve_device, resolve_dtype

# Weights, configuration, tokenizer; none of the code that lies beside them.
CHECKPOINT_FILES = ["*.safetensors", "*.bin", "*.json", "*.model", "*.txt"]


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

    # What goes wrong is said by our own errors, in one line.
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    folder = card.location if Path(card.location).is_dir() else _fetch(card)
    arguments = {"trust_remote_code": False, "local_files_only": True}
    try:
        processor = AutoProcessor.from_pretrained(folder, **arguments)
        loaded = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, DTYPES[dtype_choice.value]), **arguments
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The model {card.name!r} cannot be loaded from {folder}: {_first_line(error)} "
            "Check that its files are complete, or fetch them again."
        ) from error
    return LocalEngine(loaded.to(device_choice.value).eval(), processor, card, device_choice, dtype_choice)


def _fetch(card: ModelCard) -> str:
    """The folder of a model in the hub's cache, after fetching what is missing; goes on where it was cut off."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(card.source, allow_patterns=CHECKPOINT_FILES)
    except Exception as error:  # the network libraries below have no common ancestor
        raise CheckpointError(
            f"{card.title} cannot be fetched from the hub ({card.source}): {_first_line(error)} "
            "It is not on this disk; check the network, or give the folder of a copy with --model."
        ) from error


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith(".") else f"{line}."
