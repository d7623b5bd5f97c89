"""Attach LoRA adapters with PEFT: checked against the model, then merged into it where its weights are not quantised.

Only the weights of an adapter are read, from safetensors or from a pickle that runs no code.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnilmm.adapter_files import AdapterFiles, read_adapter
from omnilmm.errors import CheckpointError, MissingPackageError
from omnilmm.models.checkpoint import file_shapes

WRAPPED = "base_model.model."  # prefix of every tensor of an adapter


def import_peft() -> Any:
    """Import PEFT, which imports bitsandbytes, without warnings and without letting that fetch a kernel.

    Raises:
        MissingPackageError: It is not installed.
    """
    if find_spec("peft") is None:
        raise MissingPackageError("peft_missing")
    if find_spec("bitsandbytes") is not None:
        from omnilmm.engine.placement.bitsandbytes import prepare_bitsandbytes

        prepare_bitsandbytes()
    # PEFT asks under the older name of `is_activation_checkpointing`.
    warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
    import peft

    return peft


def attach(model: Any, folder: Path, *, is_merged: bool) -> Any:
    """Load an adapter into a model and return the model.

    Args:
        model: the base model, on its device.
        folder: folder of the adapter.
        is_merged: add the adapter to the weights, so that it costs no time; otherwise its layers stay beside them, as
            they have to with quantised weights.

    Raises:
        MissingPackageError: PEFT is not installed.
        CheckpointError: The adapter does not fit the model.
    """
    wrapped = wrap(model, folder)
    if is_merged:
        return wrapped.merge_and_unload(safe_merge=True)
    wrapped.requires_grad_(False)
    return wrapped.get_base_model()


def wrap(model: Any, folder: Path) -> Any:
    """Load an adapter into a model and return PEFT's model, which can merge it; errors as of `attach`."""
    peft = import_peft()
    check_shapes(model, read_adapter(str(folder)))
    return peft.PeftModel.from_pretrained(model, str(folder), local_files_only=True)


def check_shapes(model: Any, files: AdapterFiles) -> None:
    """Check that every LoRA pair of an adapter belongs to a layer of the model and has its size.

    Raises:
        CheckpointError: A layer is missing or has another size; the message names the first.
    """
    modules: Mapping[str, Any] = dict(model.named_modules())
    shapes = file_shapes(files.weights)
    if not shapes:
        raise CheckpointError("adapter_empty", name=files.name)
    for name, shape in sorted(shapes.items()):
        path, found, _ = name.removeprefix(WRAPPED).partition(".lora_")
        if not found:
            continue
        layer = modules.get(path)
        side = "in_features" if ".lora_A." in name or ".lora_embedding_A" in name else "out_features"
        expected = getattr(layer, side, None)
        got = shape[-1] if side == "in_features" else shape[0]
        if layer is None:
            raise CheckpointError("adapter_of_another_shape", name=files.name, layer=path, expected=0, got=got)
        if expected is not None and expected != got:
            raise CheckpointError("adapter_of_another_shape", name=files.name, layer=path, expected=expected, got=got)
