"""Weight initialisation with which a small model learns to use pictures within minutes instead of hours.

Four parts are set explicitly, everything else keeps the usual random initialisation:

* the tower's patch embedding is set to the whitened principal components of patches: plain colour would otherwise
  dominate the edges by which shapes and letters differ;
* the tower's positional embeddings start as two-dimensional sin-cos, so that neighbours are similar from the start;
* token embeddings and picture features start at the same scale, so that neither dominates in the language model;
* each resampler query starts by attending to its own 3×3 patches: queries consist of the high frequencies of the
  keys' sin-cos positions, the query and key projections pass these on, amplified and distributed over the heads, and
  the content of the patches starts with small weights in these channels.

The weights can also be taken from a smaller model of the same widths (`take_over`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer

from built_in.cells import CELL_PATCHES, CELLS
from omnilmm.models.checkpoint import weight_files
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.resampler import HEAD_WIDTH, sincos_positions

TOKEN_SCALE = 0.2  # standard deviation per channel of token embeddings and of features
PATCH_SCALE = 0.5  # scale per channel of patch embeddings, as of the positions
LEAST_VARIANCE = 0.01  # of a component; components below it are noise rather than edges
SHARPNESS = 2.0  # of the initial attention: about two thirds of a query's attention falls on its own patches
LEAST_FREQUENCY = 0.1  # lower frequencies hardly vary within a dozen patches
# Output projections of attention and MLP, in the language model and in the vision tower.
_LAST_OF_A_BLOCK = ("o_proj.weight", "down_proj.weight", "out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias")


@torch.no_grad()
def initialise(model: MiniCPMV, strips: Tensor) -> None:
    """Initialise the four parts of a newly built model.

    Args:
        model: model with random weights.
        strips: [N, 3, P, P·L] sample pictures for the statistics of patches.
    """
    _whiten_patches(model.vpm.embeddings.patch_embedding, strips)
    positions = model.vpm.embeddings.position_embedding.weight
    side, width = model.vpm.embeddings.table_side, positions.shape[1]
    positions.copy_(sincos_positions(side, side, width) * 0.5)

    resampler = model.resampler
    nn.init.normal_(model.llm.model.embed_tokens.weight, std=TOKEN_SCALE)
    resampler.proj.mul_(TOKEN_SCALE)
    span = CELL_PATCHES * CELLS
    table = sincos_positions(span, span, resampler.query.shape[1]).view(CELLS, CELL_PATCHES, CELLS, CELL_PATCHES, -1)
    quarter = resampler.query.shape[1] // 4
    frequencies = 10000.0 ** -(torch.arange(quarter) / quarter)
    fast = (frequencies > LEAST_FREQUENCY).float().repeat(4)
    resampler.query.copy_(table.mean(dim=(1, 3)).flatten(0, 1) * fast)

    # Reduce patch content in the channels of the high frequencies, so that it does not dominate them.
    resampler.kv_proj.weight *= 1 - 0.9 * fast[:, None]

    # Channels are interleaved over the heads, so that each head gets columns and rows.
    dim = resampler.query.shape[1]
    heads = dim // HEAD_WIDTH
    order = torch.arange(dim).view(-1, heads).t().flatten()
    through = torch.zeros(dim, dim)
    through[torch.arange(dim), order] = SHARPNESS * fast[order]
    noise = torch.randn(dim, dim) * 0.02
    resampler.attn.in_proj_weight[:dim] = through + noise
    resampler.attn.in_proj_weight[dim : 2 * dim] = through + noise.flip(0)


def _whiten_patches(layer: nn.Conv2d, strips: Tensor) -> None:
    side = layer.weight.shape[-1]
    patches = strips.unflatten(-1, (-1, side)).permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(1)  # [N·L, 3·P·P]
    patches = patches[patches.abs().sum(dim=1) > 0]  # drop padding
    mean = patches.mean(dim=0)
    variances, components = torch.linalg.eigh((patches - mean).t() @ (patches - mean) / len(patches))
    count = min(layer.weight.shape[0], len(variances))
    kept = components[:, -count:] / (variances[-count:] + LEAST_VARIANCE).sqrt()
    layer.weight[:count] = kept.t().view(count, *layer.weight.shape[1:]) * PATCH_SCALE
    if layer.bias is not None:
        layer.bias[:count] = -(mean @ kept) * PATCH_SCALE


@torch.no_grad()
def take_over(model: MiniCPMV, tokenizer: Any, folder: Path) -> list[str]:
    """Start from the weights of a checkpoint of the same or a smaller size.

    Tensors of the same name and shape are copied, token embeddings by token, queries by cell. The output projections of
    layers that the checkpoint does not have are zeroed, so that these layers start as the identity.

    Args:
        model: initialised model with the vocabulary of `tokenizer`.
        tokenizer: tokenizer of the new model.
        folder: folder of the checkpoint, with its own tokenizer.

    Returns:
        Names of the tensors that were not copied.
    """
    old = {name: tensor.float() for file in weight_files(folder) for name, tensor in load_file(file).items()}
    kept = []
    for name, tensor in model.state_dict().items():
        if name in old and old[name].shape == tensor.shape:
            tensor.copy_(old[name])
        elif name in ("llm.model.embed_tokens.weight", "llm.lm_head.weight"):
            _take_over_tokens(tensor, tokenizer, old[name], AutoTokenizer.from_pretrained(folder))
        elif name == "resampler.query":
            _take_over_queries(tensor, old[name])
        else:
            kept.append(name)
            if name not in old and name.endswith(_LAST_OF_A_BLOCK):
                tensor.zero_()
    return kept


def _take_over_tokens(table: Tensor, tokenizer: Any, old: Tensor, old_tokenizer: Any) -> None:
    old_ids = old_tokenizer.get_vocab()
    for token, row in tokenizer.get_vocab().items():
        if token in old_ids:
            table[row] = old[old_ids[token]]


def _take_over_queries(queries: Tensor, old: Tensor) -> None:
    """Copy the queries; a new cell gets its nearest neighbour's query, shifted by the difference of their positions."""
    side = round(len(old) ** 0.5)
    places = queries.clone()  # as set by `initialise`: positions only
    for number in range(len(queries)):
        row, column = divmod(number, CELLS)
        near = min(row, side - 1), min(column, side - 1)
        moved = places[number] - places[near[0] * CELLS + near[1]]
        queries[number] = old[near[0] * side + near[1]] + moved
