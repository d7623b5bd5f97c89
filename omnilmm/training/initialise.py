"""A start from which a small model learns to look within minutes instead of hours.

Three places are set by hand, everything else keeps the usual random start:

* the tower's table of positions starts as two-dimensional sin-cos, so that neighbours are alike from the beginning;
* the embeddings and the features start at one scale, so that neither drowns the other in the language model;
* each resampler query starts as a look at its own 3×3 patches: queries are made of the sin-cos positions that the
  keys carry, and the query and key projections pass them through unchanged.
"""

from __future__ import annotations

import torch
from torch import nn

from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.resampler import HEAD_WIDTH, sincos_positions
from omnilmm.training.data import CELL_PATCHES, CELLS

TOKEN_SCALE = 0.2  # of one channel of a token's embedding, and of a feature
SHARPNESS = 2.0  # of the first looks: about two thirds of a query's attention falls on its own patches
LEAST_FREQUENCY = 0.1  # slower waves hardly differ within a dozen patches


@torch.no_grad()
def initialise(model: MiniCPMV) -> None:
    """Set the three places in a freshly built model."""
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

    # Patch content starts nearly silent in the channels that carry the fast waves, so that it cannot drown them.
    resampler.kv_proj.weight *= 1 - 0.9 * fast[:, None]

    # Heads take turns over the channels, so that each of them sees columns and rows.
    dim = resampler.query.shape[1]
    heads = dim // HEAD_WIDTH
    order = torch.arange(dim).view(-1, heads).t().flatten()
    through = torch.zeros(dim, dim)
    through[torch.arange(dim), order] = SHARPNESS * fast[order]
    noise = torch.randn(dim, dim) * 0.02
    resampler.attn.in_proj_weight[:dim] = through + noise
    resampler.attn.in_proj_weight[dim : 2 * dim] = through + noise.flip(0)
