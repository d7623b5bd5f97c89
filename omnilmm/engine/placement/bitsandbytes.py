"""4-bit and 8-bit weights with bitsandbytes: the configuration for loading, and corrections afterwards.

A quantised model is placed on its devices during loading (`device_map.from_pretrained_arguments`), never by `.to()`
afterwards. Tested with bitsandbytes 0.50.2.
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
    """Return the configuration for quantising weights during loading; None for a dtype that is not quantised.

    int4 is NF4 with double quantisation, as in the published int4 checkpoints; int8 is LLM.int8 with its default
    outlier threshold.

    Args:
        dtype: as returned by `resolve_dtype`.
        compute: as returned by `compute_dtype`.
        skip_modules: modules that are not quantised, as returned by `modules_to_not_convert`.
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
    """Import bitsandbytes without warnings and without letting it run code from a hub.

    If the package `kernels` is installed and the CPU has AVX512-BF16, importing bitsandbytes downloads a kernel from
    the hub and runs it; without the package it warns. int8 warns in every layer of every token that it rounds to fp16.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with _without("kernels"):
        import bitsandbytes  # noqa: F401


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Make a package impossible to import within the block."""
    missing = object()
    before: Any = sys.modules.get(package, missing)
    sys.modules[package] = None  # type: ignore[assignment]  # None makes its import fail
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[package]
        else:
            sys.modules[package] = before


def finalize_quantized_model(model: PreTrainedModel) -> int:
    """Correct a quantised model after loading; call once. Models that are not quantised are left unchanged.

    * transformers converts the biases of a quantised checkpoint to the requested dtype, but leaves the weights that are
      not quantised in the dtype of the files.
    * int4 layers compute in the dtype given by the checkpoint; they are set to the model's.
    * The published int4 checkpoints also quantise the vision tower, whose MLP is 4304 wide: not a multiple of 64, so
      rows end within a block. bitsandbytes' CPU kernels crash on such layers (with AVX512-BF16) or are silently wrong
      by a quarter (without it), so on the CPU these layers are dequantised.

    Returns:
        The number of layers that were dequantised.
    """
    if not getattr(model, "is_quantized", False):
        return 0
    for tensor in model.parameters():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(model.config.dtype)
    packed = [(name, module) for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"]
    for _, module in packed:
        module.compute_dtype = model.config.dtype
    unaligned = [
        (name, module) for name, module in packed if is_unaligned(module) and module.weight.device.type == "cpu"
    ]
    for name, module in unaligned:
        model.set_submodule(name, _unpacked(module, model.config.dtype))
    return len(unaligned)


def keep_differentiable(model: nn.Module) -> None:
    """Keep int4 layers in the format through which gradients can be computed; call before training.

    On a CPU with AVX512-BF16, a layer that is not in training mode rewrites its weights for a faster kernel once it is
    used, through which gradients are silently wrong.
    """
    modules: list[Any] = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    for module in modules:
        state = module.weight.quant_state
        if getattr(state, "packing_format_for_cpu", False):
            from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

            module.weight.data, module.weight.quant_state = _convert_weight_packed_for_cpu_inverse(
                module.weight.data, state
            )
        module.support_avx512bf16_for_cpu = False


def _unpacked(packed: Any, dtype: torch.dtype) -> nn.Linear:
    """Dequantise an int4 layer into a plain one; the kernel is given the weights as rows of one block each."""
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
