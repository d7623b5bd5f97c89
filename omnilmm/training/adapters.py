"""Prepare a model for training: add LoRA layers with PEFT, or freeze what full fine-tuning leaves alone; and save it.

An adapter names its base by hub id or folder, so that `--adapter` can check it. AutoPeftModel loads such an adapter
with `import_allowlist=["omnilmm"]`, as the model classes are those of this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from omnilmm.catalog import ModelCard
from omnilmm.engine.adapters import import_peft
from omnilmm.engine.placement.bitsandbytes import keep_differentiable
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.training.targets import Tuning, freeze, target_pattern, tower_name

LARGEST_FILE = "5GB"


def prepare(model: PictureModel, tuning: Tuning, card: ModelCard, revision: str | None = None) -> Any:
    """Return the model with what is to be trained requiring gradients; LoRA starts from torch's random state.

    Args:
        model: the base model.
        tuning: what is trained.
        card: card of the base, which the adapter names.
        revision: commit of the base, which the adapter names, too.
    """
    if tuning.method == "full":
        model.requires_grad_(True)
        freeze(model, tuning)
        return model
    peft = import_peft()
    keep_differentiable(model)
    config = peft.LoraConfig(
        revision=revision,
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules=target_pattern(model, tuning),
        modules_to_save=[_resampler_name(model)] if tuning.tune_resampler else None,
    )
    learning = peft.get_peft_model(model, config)
    learning.peft_config["default"].base_model_name_or_path = card.name if card.is_shipped else card.source
    _learn_in_float32(learning)
    if tuning.tune_resampler:
        model.resampler.register_forward_pre_hook(_patches_in_float32)
    return learning


def inner(model: Any) -> PictureModel:
    """Return the model of this package within a PEFT model, or the model itself."""
    found: PictureModel = model if isinstance(model, PictureModel) else model.get_base_model()
    return found


def save(model: Any, folder: Path, processor: MiniCPMVProcessor | None = None) -> None:
    """Save an adapter, or a whole model with its tokenizer; never asks the hub about the base."""
    if not isinstance(model, PictureModel):
        model.save_pretrained(folder, save_embedding_layers=False)
        return
    model.save_pretrained(folder, max_shard_size=LARGEST_FILE)
    if processor is not None:
        processor.save_pretrained(folder)


def _learn_in_float32(learning: Any) -> None:
    """Convert what is trained: PEFT does so with LoRA's layers only, and half precision rounds small steps away."""
    for parameter in learning.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _patches_in_float32(resampler: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert the patches that a half-precision tower passes to a resampler in float32; `merge` converts its output."""
    return (given[0].float(), *given[1:])


def _resampler_name(model: PictureModel) -> str:
    return f"{tower_name(model).rpartition('.')[0]}.resampler".removeprefix(".")
