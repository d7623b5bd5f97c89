"""What a checkpoint's files say before anything is loaded: which tensors of which shapes, and whose they are.

Headers alone are read, so a folder of 20 GB takes milliseconds, and a file that was cut off is found and named.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open

from omnilmm.errors import CheckpointError
from omnilmm.formats import check_files

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")

Shapes = dict[str, tuple[int, ...]]


def weight_files(folder: Path) -> list[Path]:
    """The files with weights, in the order in which transformers looks for them.

    Raises:
        CheckpointError: There are none, though perhaps another program's, or the index names one that is not there.
    """
    for single, index in zip(SINGLE_FILES, INDEXES, strict=True):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _indexed(folder / index)
    check_files(str(folder), (file.name for file in folder.iterdir()))
    raise CheckpointError(f"{folder} has no weights: expected one of {', '.join(SINGLE_FILES + INDEXES)}.")


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is no index of weights: {error}. Fetch it again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} is not complete: {', '.join(missing)} of {len(names)} weight files are missing. "
            "Fetch them again."
        )
    return [index.parent / name for name in names]


def tensor_shapes(folder: Path) -> Shapes:
    """Names and shapes of all tensors of a folder.

    Raises:
        CheckpointError: Weights that are missing or damaged; the message names the file.
    """
    shapes: Shapes = {}
    for file in weight_files(folder):
        try:
            shapes |= _pickled_shapes(file) if file.suffix == ".bin" else _safe_shapes(file)
        except (SafetensorError, OSError, RuntimeError, BadZipFile, EOFError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or ["empty"])[0]
            raise CheckpointError(
                f"The weight file {file} is damaged or cut off ({reason}). Fetch it again."
            ) from error
    return shapes


def _safe_shapes(file: Path) -> Shapes:
    with safe_open(file, "pt") as weights:
        return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118


def _pickled_shapes(file: Path) -> Shapes:
    """Through a memory map onto the meta device: nothing but the small pickle is read, and no code of it is run."""
    tensors = torch.load(file, map_location="meta", mmap=True, weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise RuntimeError("it holds something else than tensors by name")
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def looks_like(names: Collection[str]) -> str | None:
    """Whose tensors these are, by their names; None where they are nobody's known here."""
    if any(name.startswith("model.vision_tower.") for name in names):
        return "OmniLMM-12B"
    if any(name.startswith("vpm.blocks.") for name in names):
        return "MiniCPM-V 1.0 or 2.0"
    if any(name.startswith("vpm.encoder.") for name in names):
        has_biases = any(name.endswith("self_attn.q_proj.bias") and name.startswith("llm.") for name in names)
        return "MiniCPM-V 2.6" if has_biases else "MiniCPM-Llama3-V 2.5"
    return None
