"""Weights quantised by bitsandbytes, as the int4 checkpoint has them, are read as they were written."""

from __future__ import annotations

import bitsandbytes.functional
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.goldens import Named, read_json


def weights(layer: Named) -> tuple[Tensor, dict[str, Tensor]]:
    """The packed weight and what describes it, by the names bitsandbytes gives them."""
    stored = load_file(layer.folder / "model.safetensors")
    name = f"{layer.name}.weight"
    return stored[name], {key: tensor for key, tensor in stored.items() if key.startswith(f"{name}.")}


def by_hand(layer: Named) -> Tensor:
    """De-quantised from the description of the format alone, in float16 as the module's type says."""
    packed, parts = weights(layer)
    part = {key.removeprefix(f"{layer.name}.weight."): tensor for key, tensor in parts.items()}
    state = read_json(layer.folder / "expected.json")["layers"][layer.name]["quant_state"]
    nibbles = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=1).flatten().long()
    blocks = torch.arange(len(part["absmax"])) // state["nested_blocksize"]
    scales = part["nested_quant_map"][part["absmax"].long()] * part["nested_absmax"][blocks] + state["nested_offset"]
    values = part["quant_map"][nibbles] * scales.repeat_interleave(state["blocksize"])[: len(nibbles)]
    return values.half().float().view(state["shape"])


def test_the_format_is_the_described_one(nf4_layer: Named) -> None:
    expected = load_file(nf4_layer.folder / "expected.safetensors")
    assert torch.equal(by_hand(nf4_layer), expected[f"{nf4_layer.name}.weight_dequantized"])


def test_bitsandbytes_reads_it_alike_on_this_machine(nf4_layer: Named) -> None:
    """Rows of a multiple of 64, as every published shape has: bitsandbytes' CPU kernel errs on others."""
    expected = load_file(nf4_layer.folder / "expected.safetensors")
    theirs = expected[f"{nf4_layer.name}.weight_dequantized"]
    packed, parts = weights(nf4_layer)
    state = {key.removeprefix(f"{nf4_layer.name}.weight."): tensor for key, tensor in parts.items()}
    parameter = Params4bit.from_prequantized(data=packed, quantized_stats=state, device="cpu")
    if theirs.shape[1] % 64 == 0:
        ours = bitsandbytes.functional.dequantize_4bit(parameter.data, parameter.quant_state)
        assert torch.equal(ours.float(), theirs)
    layer = Linear4bit(theirs.shape[1], theirs.shape[0], bias=False, compute_dtype=torch.float32)
    layer.weight = parameter
    x, y = expected[f"{nf4_layer.name}.x"], expected[f"{nf4_layer.name}.y"]
    assert float((layer(x) - y).abs().max()) < 0.02 * float(y.abs().max())
