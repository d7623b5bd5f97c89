"""Which weights a method trains: full module paths, so that names shared with the vision tower are not hit by accident.

LoRA adapts the linear layers within the decoder layers of the language model. `q_proj` alone would also match the
tower of 2.5 and later. With `tune_vision` the linear layers of the tower are adapted, too; with `tune_resampler` the
resampler, which is small, is trained as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from omnilmm.engine.placement.layers import decoder_layers
from omnilmm.models.picture_model import PictureModel

Method = Literal["lora", "qlora", "full"]
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")


@dataclass(frozen=True)
class Tuning:
    """What is trained.

    Attributes:
        method: "lora", "qlora" (LoRA over 4-bit weights) or "full".
        rank, alpha, dropout: of LoRA.
        tune_resampler, tune_vision: train these parts, too.
    """

    method: Method = "lora"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    tune_resampler: bool = False
    tune_vision: bool = False

    @property
    def keeps_features(self) -> bool:
        """Whether the features of a picture stay the same throughout."""
        return not (self.tune_resampler or self.tune_vision)


def tower_name(model: PictureModel) -> str:
    """Return the path of the vision tower within the model."""
    return next(name for name, module in model.named_modules() if module is model.tower)


def target_pattern(model: PictureModel, tuning: Tuning) -> str:
    """Return the regular expression that matches the full path of every layer that LoRA adapts."""
    parts = [decoder_layers(model)[0]] + ([tower_name(model)] if tuning.tune_vision else [])
    patterns = []
    for part in parts:
        inside = model.get_submodule(part)
        leaves = sorted({_without_number(name) for name, module in inside.named_modules() if _is_linear(module)})
        patterns.append(rf"{re.escape(part)}\.(?:{'|'.join(leaves)})")
    return "|".join(patterns)


def trained_parameters(model: PictureModel, tuning: Tuning) -> int:
    """Count the parameters that are trained; works on a model without data (`layers.skeleton`)."""
    if tuning.method == "full":
        frozen = [part for part, is_tuned in _parts(model, tuning) if not is_tuned]
        return sum(p.numel() for p in model.parameters()) - sum(p.numel() for part in frozen for p in part.parameters())
    pattern = re.compile(target_pattern(model, tuning))
    layers: list[Any] = [module for name, module in model.named_modules() if pattern.fullmatch(name)]
    adapters = sum(tuning.rank * (layer.in_features + layer.out_features) for layer in layers)
    return adapters + tuning.tune_resampler * sum(p.numel() for p in model.resampler.parameters())


def freeze(model: PictureModel, tuning: Tuning) -> None:
    """Freeze the tower and the resampler where they are not tuned, for full fine-tuning."""
    for part, is_tuned in _parts(model, tuning):
        part.requires_grad_(is_tuned)


def _parts(model: PictureModel, tuning: Tuning) -> list[tuple[nn.Module, bool]]:
    return [(model.tower, tuning.tune_vision), (model.resampler, tuning.tune_resampler)]


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)


def _without_number(name: str) -> str:
    r"""Return the pattern of a path within a list of layers: "0.mlp.up_proj" -> r"\d+\.mlp\.up_proj"."""
    return r"\.".join(r"\d+" if part.isdigit() else re.escape(part) for part in name.split("."))
