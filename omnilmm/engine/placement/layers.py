"""Inspects a model before it is loaded: its decoder layers, its quantised modules, and the size of each tensor.

Nothing here depends on a model class: the language model is found by its token embeddings, and its decoder layers are
the module list next to them. So native models and those of transformers are treated alike.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omnilmm.errors import CheckpointError
from omnilmm.hardware import QUANTISED, compute_dtype

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

# int4 stores one scale per block of a row. bitsandbytes' CPU kernels require whole blocks per row (otherwise they crash
# or are silently wrong by a quarter) and a multiple of the number of rows that AVX-512 processes at once.
BLOCK = 64
ROWS_AT_ONCE = 32
NUMBER_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
PACKED = ("awq", "gptq")  # methods whose checkpoints hold packed weights of the decoder layers


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the model of a configuration on the meta device: names and shapes, no memory; takes about a second."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        # Models modify their configuration.
        return AutoModelForImageTextToText.from_config(copy.deepcopy(config), trust_remote_code=False)


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Return the language model's decoder layers and their name in the model, e.g. "llm.model.layers".

    Raises:
        CheckpointError: There is no module list next to the token embeddings.
    """
    from torch.nn import ModuleList

    table = model.get_input_embeddings()
    name = next((name for name, module in model.named_modules() if module is table), "")
    parent = name.rpartition(".")[0]
    beside = model.get_submodule(parent).named_children()
    lists = [(key, child) for key, child in beside if isinstance(child, ModuleList)]
    if not name or not lists:
        raise CheckpointError("no_decoder_layers", kind=type(model).__name__)
    key, layers = max(lists, key=lambda item: len(item[1]))
    return f"{parent}.{key}" if parent else key, layers


def outside_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of everything outside the decoder layers: tower, resampler, embeddings, final norm, head.

    The list is as short as possible. Parameters held directly by a parent module of the layers are listed by name.
    """
    name, _ = decoder_layers(model)
    found = []
    parts = name.split(".")
    for depth, part in enumerate(parts):
        path = parts[:depth]
        module = model.get_submodule(".".join(path))
        inside = [key for key, _ in module.named_children() if key != part]
        inside += [key for key, _ in module.named_parameters(recurse=False)]
        found += [".".join([*path, key]) for key in inside]
    return found


def modules_to_not_convert(model: PreTrainedModel) -> list[str]:
    """Return the modules that are not quantised, in the format of bitsandbytes' configuration.

    These are everything outside the decoder layers, notably tower, resampler and head, and linear layers within them
    that int4 cannot store in whole blocks (no published model has one).
    """
    name, layers = decoder_layers(model)
    unaligned = [
        f"{name}.{key}" for key, module in layers.named_modules() if _is_linear(module) and is_unaligned(module)
    ]
    return outside_layers(model) + unaligned


def quantised_modules(model: PreTrainedModel, dtype: str, device: str) -> set[str]:
    """Return the names of the linear layers whose weights are quantised in memory, by transformers' own rule.

    The configuration of a quantised checkpoint specifies its modules. On the CPU, its unaligned int4 layers are
    dequantised (`bitsandbytes.finalize_quantized_model`).
    """
    from transformers.quantizers.quantizers_utils import should_convert_module

    if dtype not in QUANTISED:
        return set()
    given = getattr(model.config, "quantization_config", None) or {}
    given = given if isinstance(given, dict) else given.to_dict()
    kept = given.get("llm_int8_skip_modules") or modules_to_not_convert(model)
    thawed = dtype == "int4" and device == "cpu"
    return {
        name
        for name, module in model.named_modules()
        if _is_linear(module) and should_convert_module(name, kept) and not (thawed and is_unaligned(module))
    }


@dataclass(frozen=True)
class Packing:
    """How a checkpoint packs the linear layers of its decoder.

    Attributes:
        bits: per weight.
        group: weights of a row that share a scale and a zero point; 0 for the whole row.
        kept: names of modules that are not packed.
    """

    bits: int
    group: int
    kept: tuple[str, ...]

    def packed_bytes(self, weight: Tensor) -> int:
        """Return the bytes of a packed weight [out, in] with its scales, which are in half precision."""
        rows, columns = weight.shape
        groups = rows * math.ceil(columns / (self.group or columns))
        return math.ceil((weight.numel() + groups) * self.bits / 8) + 2 * groups


def packing(config: PreTrainedConfig) -> Packing | None:
    """Return the packing of a checkpoint in AWQ or GPTQ; None for any other."""
    given = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(), "quantization_config", None
    )
    if given is None:
        return None
    settings = given if isinstance(given, dict) else given.to_dict()
    bits, group = (settings.get(name) for name in ("bits", "group_size"))
    if str(getattr(settings.get("quant_method"), "value", settings.get("quant_method"))) not in PACKED:
        return None
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        return None
    kept = settings.get("modules_to_not_convert") or ()
    return Packing(bits, max(group, 0) if isinstance(group, int) else 0, tuple(kept))


def packed_modules(model: PreTrainedModel) -> tuple[set[str], Packing | None]:
    """Return the linear layers of the decoder that the checkpoint itself has packed, and how."""
    from transformers.quantizers.quantizers_utils import should_convert_module

    how = packing(model.config)
    if how is None:
        return set(), None
    name, layers = decoder_layers(model)
    found = (f"{name}.{key}" for key, module in layers.named_modules() if _is_linear(module))
    return {place for place in found if should_convert_module(place, list(how.kept))}, how


def tensor_sizes(model: PreTrainedModel, dtype: str, device: str) -> dict[str, int]:
    """Return the size in bytes of every parameter and buffer of a skeleton in the dtype it will be loaded in."""
    number, quantised = number_bytes(dtype, device), quantised_modules(model, dtype, device)
    packed, how = packed_modules(model)
    sizes = {name: table.nbytes for name, table in model.named_buffers()}
    for name, tensor in model.named_parameters():
        module, _, key = name.rpartition(".")
        if key == "weight" and how and module in packed:
            sizes[name] = how.packed_bytes(tensor)
        elif key == "weight" and module in quantised:
            sizes[name] = _packed_bytes(tensor, dtype)
        else:
            sizes[name] = tensor.numel() * number
    return sizes


def number_bytes(dtype: str, device: str) -> int:
    """Return the bytes per unquantised element; quantised models compute in half precision except on some CPUs."""
    if dtype in QUANTISED and device != "cpu":
        return 2
    return NUMBER_BYTES[compute_dtype(dtype, device)]


def is_unaligned(linear: Any) -> bool:
    """Return whether a linear layer's rows are not whole blocks, or their number is no multiple of `ROWS_AT_ONCE`."""
    return bool(linear.in_features % BLOCK or linear.out_features % ROWS_AT_ONCE)


def _is_linear(module: nn.Module) -> bool:
    """Return whether a module is exactly `nn.Linear`; `nn.MultiheadAttention` uses a subclass that it never calls."""
    from torch.nn import Linear

    return type(module) is Linear


def _packed_bytes(weight: Tensor, dtype: str) -> int:
    """Return the bytes of a quantised weight with its scales.

    int8 has one float32 scale per row; int4 one byte per block, one float32 per 256 of those, and two tables.
    """
    if dtype == "int8":
        return weight.numel() + 4 * len(weight)
    blocks = math.ceil(weight.numel() / BLOCK)
    return math.ceil(weight.numel() / 2) + blocks + 4 * math.ceil(blocks / 256) + 4 * (16 + 256 + 1)
