"""Checks of a checkpoint before its weights are loaded, and before they are downloaded.

They use the model's card, `config.json`, the names and shapes of the tensors, and how much memory is free.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnilmm.catalog import ModelCard, cards
from omnilmm.engine.load_errors import explained
from omnilmm.engine.runnable import check_runs
from omnilmm.errors import HardwareError
from omnilmm.hardware import AS_ASKED, QUANTISED, Choice, resolve_dtype
from omnilmm.model_lookup import find
from omnilmm.sentences import Sentence
from omnilmm.versions import OMNI_TYPE, SOUND, without_sound

logger = logging.getLogger(__name__)
PACKED_NAMES = ("qweight", "weight_packed")  # how AWQ, GPTQ and compressed-tensors name packed weights


def check_before_download(card: ModelCard, device: Choice, dtype: str, freed_bytes: int) -> None:
    """Refuse a model that cannot fit before downloading it; fp32 chosen by "auto" counts as bf16, its fallback."""
    from omnilmm.engine.placement.fit import check_download

    choice = resolve_dtype(dtype, device.value, card.stored, card.parameters)
    least = Choice("bf16", choice.reason) if choice.value == "fp32" != dtype else choice
    check_download(card, device, least, freed_bytes)


def check_before_weights(card: ModelCard, device: Choice, dtype: str, freed_bytes: int, folder: Path) -> None:
    """Refuse a model whose `config.json` shows that it cannot run here or does not fit into the free memory."""
    check_runs(card.source, folder)
    card = card_of(card, folder)
    with explained(card, folder):
        config = read_config(folder)
        parameters = card.parameters or _parameters(config)
        card = card.model_copy(update={"parameters": parameters})
        choice = resolve_dtype(dtype, device.value, card.stored, parameters)
        try:
            fitting_dtype(card, config, device, choice, freed_bytes)
        except HardwareError as error:
            raise HardwareError("nothing_fetched", reason=error) from None


def _parameters(config: Any) -> int:
    """Count the parameters of the model that a configuration describes."""
    from omnilmm.engine.placement.layers import skeleton

    return sum(parameter.numel() for parameter in skeleton(config).parameters())


def card_of(card: ModelCard, folder: Path) -> ModelCard:
    """Return the card of a downloaded model; one that is not in the catalog is described by its files."""
    if card.base_name in cards():
        return card
    named = {name: getattr(card, name) for name in ("name", "title", "source", "adapter")}
    return find(str(folder)).model_copy(update=named)


def read_config(folder: Path) -> Any:
    """Return the configuration of a checkpoint; an attention that is not installed here is left to torch."""
    from transformers import AutoConfig

    from omnilmm.models.library import LOCAL

    config = AutoConfig.from_pretrained(folder, **LOCAL)
    attention = str(config._attn_implementation)
    if attention.startswith("flash_attention") and not find_spec("flash_attn"):
        logger.info("config.json asks for %s, which is not installed: torch's own attention is used", attention)
        config._attn_implementation = None
    return config


def read_shapes(name: str, folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors; refuses a checkpoint that cannot run here before minutes of loading."""
    from omnilmm.models.checkpoint import tensor_shapes

    check_runs(name, folder)
    shapes = tensor_shapes(folder)
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") != OMNI_TYPE:
        return shapes
    kept = without_sound(shapes)
    logger.warning("%s", Sentence("sound_set_aside", name=name, count=len(shapes) - len(kept), prefixes=SOUND))
    return kept


def check_tensors(config: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors that do not match the configuration before another model is unloaded for them."""
    from omnilmm.models import library

    library.check_tensors(config, dict(shapes))


def check_adapter(config: Any, folder: Path) -> None:
    """Refuse an adapter that does not fit, or that cannot be loaded, before another model is unloaded for it."""
    from omnilmm.adapter_files import read_adapter
    from omnilmm.engine.adapters import check_shapes, import_peft
    from omnilmm.engine.placement.layers import skeleton

    import_peft()
    check_shapes(skeleton(config), read_adapter(str(folder)))


def count_parameters(card: ModelCard, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Count the parameters in the files; None for a quantised checkpoint, whose weights are packed."""
    is_packed = any(name.endswith(PACKED_NAMES) for name in shapes)
    return None if card.stored in QUANTISED or is_packed else sum(math.prod(shape) for shape in shapes.values())


def fitting_dtype(
    card: ModelCard, config: Any, device: Choice, dtype: Choice, freed_bytes: int = 0
) -> tuple[Choice, Sentence | None]:
    """Return the dtype (bf16 if "auto" chose fp32 and only bf16 fits) and a warning if memory is tight.

    Raises:
        HardwareError: It does not fit; the message lists what does.
    """
    from omnilmm.engine.placement.fit import check_fit

    try:
        warning = check_fit(card, config, device, dtype, freed_bytes=freed_bytes)
    except HardwareError:
        if dtype.value != "fp32" or dtype.reason == AS_ASKED:
            raise
        dtype = Choice("bf16", Sentence("fp32_does_not_fit"))
        warning = check_fit(card, config, device, dtype, freed_bytes=freed_bytes)
    return dtype, warning
