"""Inspect the tensors of a checkpoint before loading it: names, shapes, and the model they belong to.

Only headers are read, so a folder of 20 GB takes milliseconds, and truncated files are found and named; pickles in the
format before torch 1.6, which has no header, are read in full. This module also reads what transformers does not:
shards without an index, a state dict nested in a training checkpoint, and tensor names with a wrapper's prefix.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from omnilmm.errors import CheckpointError
from omnilmm.formats import INDEXES, SINGLE_FILES, check_files, check_pointers, first_of, indexed, shards
from omnilmm.sentences import Parameter, Sentence
from omnilmm.versions import looks_like

# Keys of the state dict in training checkpoints (Lightning, DeepSpeed, plain loops).
NESTED = ("state_dict", "model_state_dict", "module", "model")
# Prefixes of all names, from DistributedDataParallel, PEFT and Lightning.
PREFIXES = tuple(map(re.compile, (r"module\.", r"base_model\.model\.", r"model\.(?=(?:llm|vpm|resampler)\.)")))
# Name components at any depth, from torch.compile, FSDP and activation checkpointing.
WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
PLACE = "pretrained_model_name_or_path"  # first argument of `from_pretrained`
DAMAGES = (SafetensorError, OSError, RuntimeError, BadZipFile, EOFError, ValueError)

MOST_NAMED = 12  # mismatched tensors listed in an error

Shapes = dict[str, tuple[int, ...]]
Mismatches = dict[str, list[Parameter]]


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files in transformers' order of preference, else the shards of a checkpoint without an index.

    Raises:
        CheckpointError: There are no weights, only weights for another program, or some files are missing.
    """
    for single, index in zip(SINGLE_FILES, INDEXES, strict=True):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _all_there(folder, indexed(folder / index))
    names = [file.name for file in folder.iterdir()]
    if unlisted := shards(names):
        return _all_there(folder, unlisted)
    check_files(str(folder), names)
    raise CheckpointError("no_weights", folder=folder, expected=SINGLE_FILES + INDEXES)


def _all_there(folder: Path, names: list[str]) -> list[Path]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError("weight_files_missing", folder=folder, missing=missing, count=len(names))
    return [folder / name for name in names]


def tensor_shapes(folder: Path) -> Shapes:
    """Return the shapes of all tensors in a folder by their names, without wrapper prefixes.

    Raises:
        CheckpointError: Weights are missing, damaged or not plain tensors; the message names the file.
    """
    check_pointers(str(folder), folder)
    shapes: Shapes = {}
    for file in weight_files(folder):
        shapes |= _header(file)[0]
    names = plain_names(shapes)
    return {names[name]: shape for name, shape in shapes.items()}


def file_shapes(file: Path) -> Shapes:
    """Return the shapes of the tensors of one file by name.

    Raises:
        CheckpointError: As for `tensor_shapes`.
    """
    return _header(file)[0]


def state_dict(folder: Path) -> dict[str, Any] | None:
    """Return the state dict of a folder on the CPU, read lazily from disk; None if transformers can read the folder.

    Raises:
        CheckpointError: As for `tensor_shapes`.
    """
    files = weight_files(folder)
    headers = [_header(file) for file in files]
    names = plain_names([name for shapes, _ in headers for name in shapes])
    is_listed = len(files) == 1 or any((folder / index).is_file() for index in INDEXES)
    is_nested = any(nested for _, nested in headers)
    if is_listed and not is_nested and all(before == after for before, after in names.items()):
        return None
    tensors: dict[str, Any] = {}
    for file in files:
        tensors |= _unpickled(file, "cpu")[0] if file.suffix == ".bin" else _safe_tensors(file)
    return {names[name]: tensor for name, tensor in tensors.items()}


def mismatches(info: Mapping[str, Any]) -> Mismatches:
    """Return the missing, unexpected and mismatched tensors: their names, with shapes for the latter.

    Args:
        info: loading info of `from_pretrained`.
    """
    shapes = [
        Sentence("other_shape", name=name, expected=str(list(expected)), got=str(list(got)))
        for name, got, expected in sorted(info["mismatched_keys"])
    ]
    return {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "of another shape": shapes,
    }


def mismatch_error(found: Mismatches, there: Shapes) -> CheckpointError:
    """Return the error for tensors that do not fit the model.

    Args:
        found: as returned by `mismatches`.
        there: shapes of all tensors of the checkpoint; () where a shape is not known.
    """
    problems = [_problem(kind, names) for kind, names in found.items() if names]
    if owner := looks_like(there):
        return CheckpointError("tensors_of_another_model", problems=problems, owner=owner)
    return CheckpointError("tensors_do_not_fit", problems=problems)


def _problem(kind: str, names: Sequence[Parameter]) -> Sentence:
    count, named = len(names), first_of(names, MOST_NAMED)
    match kind:
        case "missing":
            return Sentence("tensors_missing", count=count, names=named)
        case "unexpected":
            return Sentence("tensors_unexpected", count=count, names=named)
    return Sentence("tensors_of_other_shape", count=count, names=named)


def source_of(folder: Path) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for a folder: its path, or a state dict if transformers cannot read it.

    With a state dict, the caller has to pass the configuration too.

    Raises:
        CheckpointError: As for `tensor_shapes`.
    """
    tensors = state_dict(folder)
    if tensors is None:
        return {PLACE: folder}
    found: dict[str, Any] = {PLACE: None, "state_dict": tensors}
    if (folder / GENERATION_CONFIG_NAME).is_file():
        found["generation_config"] = GenerationConfig.from_pretrained(folder)
    return found


def lazy_tensors(folder: Path) -> dict[str, Callable[[], torch.Tensor]]:
    """Return a function for each tensor of a folder, by its name without wrapper prefixes, that reads it from disk.

    Raises:
        CheckpointError: As for `tensor_shapes`.
    """
    readers: dict[str, Callable[[], torch.Tensor]] = {}
    for file in weight_files(folder):
        if file.suffix == ".bin":
            readers |= {name: partial(_same, tensor) for name, tensor in _unpickled(file, "cpu")[0].items()}
        else:
            readers |= {name: partial(_read, file, name) for name in _header(file)[0]}
    names = plain_names(readers)
    return {names[name]: read for name, read in readers.items()}


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _read(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as weights:
        return cast(torch.Tensor, weights.get_tensor(name))


def _header(file: Path) -> tuple[Shapes, bool]:
    """Return the shapes of a file's tensors by name, and whether its state dict is nested."""
    try:
        if file.suffix == ".bin":
            tensors, is_nested = _unpickled(file, "meta")
            return {name: tuple(tensor.shape) for name, tensor in tensors.items()}, is_nested
        with safe_open(file, "pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}, False  # noqa: SIM118
    except pickle.UnpicklingError as error:
        raise _refused(file, str(error)) from error
    except DAMAGES as error:
        reason = str(error).splitlines()[0] if str(error) else Sentence("empty")
        raise CheckpointError("weights_damaged", file=file, reason=reason) from error


def _safe_tensors(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, "pt") as weights:
        return {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118


def _unpickled(file: Path, device: str) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the state dict of a pickle and whether it is nested; no code of the file is run.

    Files in the newer ZIP format are memory-mapped, so that only the small pickle is read.
    """
    found = torch.load(file, map_location=device, mmap=is_zipfile(file), weights_only=True)
    if _are_tensors(found):
        return found, False
    inner = (found.get(key) for key in NESTED) if isinstance(found, dict) else ()
    tensors = next((value for value in inner if _are_tensors(value)), None)
    if tensors is None:
        raise CheckpointError("weights_damaged", file=file, reason=Sentence("no_tensors_by_name"))
    return dict(tensors), True


def _are_tensors(found: Any) -> bool:
    is_mapping = isinstance(found, Mapping) and bool(found)
    return is_mapping and all(isinstance(value, torch.Tensor) for value in found.values())


def _refused(file: Path, message: str) -> CheckpointError:
    """Return the error for a pickle that torch cannot load, or not without running code."""
    if found := re.search(r"GLOBAL ([\w.]+)", message) or re.search(
        r"[Uu]nsupported (?:global|class)\S* ([\w.]+)", message
    ):
        return CheckpointError("weights_with_code", file=file, what=found[1])
    # torch's message begins with advice to load the file unsafely, so only the cause is kept.
    detail = re.search(r"WeightsUnpickler error: (.+)", message) or re.search(r"^(.{1,80})$", message)
    reason = detail[1].strip() if detail else Sentence("no_weights_of_torch")
    return CheckpointError("weights_damaged", file=file, reason=reason)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Map tensor names to names without the prefixes of training wrappers.

    Raises:
        CheckpointError: The tensors include those of an unmerged adapter, or two would get the same name.
    """
    plain = {name: WRAPPERS.sub("", name) for name in names}
    while prefix := next((p for p in PREFIXES if plain and all(map(p.match, plain.values()))), None):
        plain = {name: prefix.sub("", short, count=1) for name, short in plain.items()}
    if any(".lora_" in name or ".base_layer." in name for name in plain):
        raise CheckpointError("weights_with_adapter")
    if len(set(plain.values())) < len(plain):
        raise CheckpointError("weights_in_wrappers")
    return plain
