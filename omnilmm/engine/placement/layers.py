"""What a model is made of, before a byte of it is loaded: its decoder layers, what is quantised, what each part weighs.

Nothing here knows a model class: the language model is where the table of token embeddings is, and its decoder layers
are the list beside that table. So the models of this repository and the library's own are treated alike.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from omnilmm.errors import CheckpointError
from omnilmm.hardware import QUANTISED, compute_dtype

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

# int4 keeps one scale per block of a row. bitsandbytes' CPU kernels want whole blocks per row (on others they crash, or
# err by a quarter without a word) and a multiple of the rows that AVX-512 takes at once.
BLOCK = 64
ROWS_AT_ONCE = 32
NUMBER_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a configuration on the meta device: names and shapes, no memory; a second at full size."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        # A copy, since models write into their configuration.
        return AutoModelForImageTextToText.from_config(copy.deepcopy(config), trust_remote_code=False)


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The language model's decoder layers and their name in the model, e.g. "llm.model.layers".

    Raises:
        CheckpointError: There is no list of layers beside the table of token embeddings.
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
    """Everything but the decoder layers, as few names as possible: tower, resampler, embeddings, final norm, head.

    Bare parameters that lie on the way to the layers have their own names among them.
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
    """What stays in half precision when the model is quantised, as bitsandbytes' configuration wants it.

    That is everything outside the decoder layers, tower, resampler and head above all, and linear layers within that
    int4 cannot store in whole blocks (no published model has one).
    """
    name, layers = decoder_layers(model)
    odd = [f"{name}.{key}" for key, module in layers.named_modules() if _is_linear(module) and is_unaligned(module)]
    return outside_layers(model) + odd


def quantised_modules(model: PreTrainedModel, dtype: str, device: str) -> set[str]:
    """Names of the linear layers whose weights are quantised in memory, by transformers' own rule.

    A quantised checkpoint says in its configuration what is. On the CPU the odd layers of such a one are not
    (`bitsandbytes.finalize_quantized_model`).
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


def tensor_sizes(model: PreTrainedModel, dtype: str, device: str) -> dict[str, int]:
    """Bytes of every parameter and table of a skeleton, as it will be loaded."""
    number, quantised = number_bytes(dtype, device), quantised_modules(model, dtype, device)
    sizes = {name: table.nbytes for name, table in model.named_buffers()}
    for name, tensor in model.named_parameters():
        module, _, key = name.rpartition(".")
        packed = key == "weight" and module in quantised
        sizes[name] = _packed_bytes(tensor, dtype) if packed else tensor.numel() * number
    return sizes


def number_bytes(dtype: str, device: str) -> int:
    """Of one number that is not quantised. Every GPU computes quantised weights in half precision, a CPU may not."""
    if dtype in QUANTISED and device != "cpu":
        return 2
    return NUMBER_BYTES[compute_dtype(dtype, device)]


def is_unaligned(linear: Any) -> bool:
    """Whether a linear layer's rows are no whole blocks, or its number of rows is not what the kernels take at once."""
    return bool(linear.in_features % BLOCK or linear.out_features % ROWS_AT_ONCE)


def _is_linear(module: nn.Module) -> bool:
    """Exactly `nn.Linear`, as the library has it: `nn.MultiheadAttention` multiplies by a subclass it never calls."""
    from torch.nn import Linear

    return type(module) is Linear


def _packed_bytes(weight: Tensor, dtype: str) -> int:
    """int8 has one float32 scale per row; int4 one byte per block, one float32 per 256 of those, and two tables."""
    if dtype == "int8":
        return weight.numel() + 4 * len(weight)
    blocks = math.ceil(weight.numel() / BLOCK)
    return math.ceil(weight.numel() / 2) + blocks + 4 * math.ceil(blocks / 256) + 4 * (16 + 256 + 1)
