"""Weights in 4 or 8 bits, by bitsandbytes: how to ask for them, and what has to be put right afterwards.

A quantised model is placed while it is loaded (`device_map.from_pretrained_arguments`), never by `.to()` afterwards.
Tested with bitsandbytes 0.50.2.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omnilmm.engine.placement.layers import is_unaligned
from omnilmm.hardware import DTYPES, QUANTISED

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import BitsAndBytesConfig, PreTrainedModel


def quantisation(dtype: str, compute: str, skip_modules: Sequence[str]) -> BitsAndBytesConfig | None:
    """How weights are quantised while they are loaded, None where they are not.

    int4 is NF4 with quantised scales, as the published int4 checkpoints have it; int8 is LLM.int8 with its usual
    threshold for outliers.

    Args:
        dtype: as from `resolve_dtype`.
        compute: as from `compute_dtype`.
        skip_modules: what stays in half precision, as from `modules_to_not_convert`.
    """
    if dtype not in QUANTISED:
        return None
    import torch
    from transformers import BitsAndBytesConfig

    prepare_bitsandbytes()
    skipped = list(skip_modules)
    if dtype == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, DTYPES[compute]),
        llm_int8_skip_modules=skipped,
    )


def prepare_bitsandbytes() -> None:
    """Import bitsandbytes quietly and without code of a hub.

    Where a package `kernels` is installed and the CPU has AVX512-BF16, its import fetches a kernel from the hub and
    runs it; where there is none it warns. int8 warns at every layer of every token that it rounds to fp16.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with _without("kernels"):
        import bitsandbytes  # noqa: F401


@contextmanager
def _without(package: str) -> Iterator[None]:
    """A package cannot be imported within."""
    missing = object()
    before: Any = sys.modules.get(package, missing)
    sys.modules[package] = None  # type: ignore[assignment]  # how Python spells it
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[package]
        else:
            sys.modules[package] = before


def finalize_quantized_model(model: PreTrainedModel) -> int:
    """To be called once after loading: put right what a quantised checkpoint leaves wrong; nothing else is touched.

    * transformers gives such a checkpoint's biases the type asked for, but leaves its plain weights in the files' own.
    * int4 layers compute in the type that the checkpoint says; they shall in the model's.
    * The published int4 checkpoints quantise the tower too, whose MLP is 4304 wide: no multiple of 64, so rows end
      within a block. bitsandbytes' CPU kernels crash there (with AVX512-BF16) or err by a quarter without a word
      (without it): such layers are un-quantised. On accelerators they stay.

    Returns:
        How many layers were un-quantised.
    """
    if not getattr(model, "is_quantized", False):
        return 0
    for tensor in model.parameters():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(model.config.dtype)
    packed = [(name, module) for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"]
    for _, module in packed:
        module.compute_dtype = model.config.dtype
    odd = [(name, module) for name, module in packed if is_unaligned(module) and module.weight.device.type == "cpu"]
    for name, module in odd:
        model.set_submodule(name, _unpacked(module, model.config.dtype))
    return len(odd)


def _unpacked(packed: Any, dtype: torch.dtype) -> nn.Linear:
    """A plain layer with the numbers of an int4 one: to the kernel they are shown as rows of one block each."""
    import torch
    from bitsandbytes import functional

    state = packed.weight.quant_state
    scales = (
        functional.dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
    )
    blocks, size = len(scales), state.blocksize
    nibbles = packed.weight.detach().reshape(-1)
    nibbles = torch.nn.functional.pad(nibbles, (0, blocks * size // 2 - len(nibbles)))
    numbers = torch.ops.bitsandbytes.dequantize_4bit(
        nibbles, scales.float(), size, state.quant_type, [blocks, size], dtype
    )
    plain = torch.nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None, device="meta")
    numbers = numbers.flatten()[: plain.weight.numel()].view(plain.weight.shape)
    plain.weight = torch.nn.Parameter(numbers.contiguous(), requires_grad=False)
    plain.bias = packed.bias
    return plain
