"""The vision tower of MiniCPM-V 2.5 and 2.6: SigLIP-400M on patch grids of any aspect ratio (NaViT).

`N` slices · `L` patches of the longest slice · `P` patch side · `D` width · `S` side of the positional embedding table

Each slice is given as a strip of patches [3, P, P·h·w] (row-major), zero-padded to the longest strip. The encoder
blocks are transformers' Idefics2 ones, which have the checkpoint's tensor names. The versions differ in the positions
of patches and in the attention mask:

* 2.6: two-dimensional positions from the slice's own grid; padding is masked.
* 2.5: one-dimensional positions over the *padded* length, so only the first row of the table is used, and padding is
  *not* masked. Both look like mistakes in the published code, but the weights were trained with them: the features of a
  slice depend on the longest slice of the prompt, and correcting either gives different features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.idefics2.configuration_idefics2 import Idefics2VisionConfig
from transformers.models.idefics2.modeling_idefics2 import Idefics2Encoder


class PatchEmbeddings(nn.Module):
    """Patch embedding plus a learned positional embedding."""

    def __init__(self, config: Idefics2VisionConfig) -> None:
        super().__init__()
        self.table_side = config.image_size // config.patch_size
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(self.table_side**2, config.hidden_size)

    def forward(self, strips: Tensor, positions: Tensor) -> Tensor:
        """[N, 3, P, P·L], [N, L] -> [N, L, D]."""
        patches = self.patch_embedding(strips.to(self.patch_embedding.weight.dtype))  # [N, D, 1, L]
        return patches.flatten(2).transpose(1, 2) + self.position_embedding(positions)


class VisionTower(nn.Module):
    """Slices -> patch features.

    Args:
        config: sizes of the tower.
        strip_positions: use the positions of MiniCPM-Llama3-V 2.5 and no mask; else 2.6's (see the module docstring).
    """

    def __init__(self, config: Idefics2VisionConfig, *, strip_positions: bool) -> None:
        super().__init__()
        self.config = config
        self.strip_positions = strip_positions
        self.embeddings = PatchEmbeddings(config)
        self.encoder = Idefics2Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, strips: Tensor, target_sizes: Tensor) -> Tensor:
        """Encode slices.

        Args:
            strips: [N, 3, P, P·L] pixels in -1..1, zeros where a slice is shorter than L patches.
            target_sizes: [N, 2] (rows, columns) of each slice in patches.

        Returns:
            [N, L, D]; rows past a slice's own patches are padding.
        """
        hidden = self.embeddings(strips, self.positions(target_sizes, strips.shape[-1] // strips.shape[-2]))
        mask = None if self.strip_positions else padding_mask(target_sizes, hidden)
        return self.post_layernorm(self.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state)

    def positions(self, target_sizes: Tensor, length: int) -> Tensor:
        """Return the indices into the positional embedding table, [N, L]; in 2.6, padding has index 0."""
        if self.strip_positions:
            strip = fractional_buckets(length, self.embeddings.table_side)
            return strip.expand(len(target_sizes), -1).to(target_sizes.device)
        positions = torch.zeros(len(target_sizes), length, dtype=torch.long)
        for index, (rows, columns) in enumerate(target_sizes.tolist()):
            row = fractional_buckets(rows, self.embeddings.table_side)
            column = fractional_buckets(columns, self.embeddings.table_side)
            grid = row[:, None] * self.embeddings.table_side + column[None, :]
            positions[index, : rows * columns] = grid.flatten()
        return positions.to(target_sizes.device)


def fractional_buckets(length: int, side: int) -> Tensor:
    """Return the bucket, out of `side`, of each of `length` evenly spaced points, [length].

    The checkpoint was trained with these float32 expressions: exact integer arithmetic gives other buckets for 285 of
    the lengths below 1400.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side, dtype=torch.float32)
    points = torch.arange(0, 1 - 1e-6, 1 / length, dtype=torch.float32)
    return torch.bucketize(points, boundaries, right=True)


def padding_mask(target_sizes: Tensor, hidden: Tensor) -> Tensor | None:
    """Return an additive attention mask [N, 1, 1, L] for padding keys, or None if no slice is padded."""
    counts = target_sizes.prod(dim=1)
    length = hidden.shape[1]
    if bool((counts == length).all()):
        return None
    hidden_keys = torch.arange(length, device=hidden.device)[None, :] >= counts[:, None]
    mask = torch.zeros(hidden_keys.shape, dtype=hidden.dtype, device=hidden.device)
    return mask.masked_fill(hidden_keys, torch.finfo(hidden.dtype).min)[:, None, None, :]
