"""The resampler: one cross-attention layer that turns any number of patches into a fixed number of features.

`N` slices · `L` patches of the longest slice · `D_v` vision width · `Q` queries · `D` language width

Learned queries attend to the projected patches. Keys carry two-dimensional sin-cos positions of the slice's own grid,
values carry none. Source: MiniCPM-V's published weights and `nn.MultiheadAttention`, whose packed `in_proj` they use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEAD_WIDTH = 128  # of every published checkpoint: heads = width // 128, whatever the language model has


class Resampler(nn.Module):
    """Patch features -> `queries` features in the language model's width."""

    def __init__(self, queries: int, width: int, vision_width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(queries, width))
        self.kv_proj = nn.Linear(vision_width, width, bias=False)
        self.attn = nn.MultiheadAttention(width, width // HEAD_WIDTH, batch_first=True)
        self.ln_q = nn.LayerNorm(width, eps=1e-6)
        self.ln_kv = nn.LayerNorm(width, eps=1e-6)
        self.ln_post = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Parameter(torch.zeros(width, width))

    def forward(self, patches: Tensor, target_sizes: Tensor) -> Tensor:
        """Condense patches.

        Args:
            patches: [N, L, D_v]; rows past a slice's own patches are ignored.
            target_sizes: [N, 2] (rows, columns) of each slice in patches.

        Returns:
            [N, Q, D].
        """
        values = self.ln_kv(self.kv_proj(patches))
        positions = torch.zeros_like(values)
        for index, (rows, columns) in enumerate(target_sizes.tolist()):
            table = sincos_positions(rows, columns, values.shape[-1])
            positions[index, : rows * columns] = table.to(values)
        padding = torch.arange(values.shape[1], device=values.device)[None, :] >= target_sizes.prod(dim=1)[:, None]
        queries = self.ln_q(self.query).expand(len(values), -1, -1)
        features, _ = self.attn(queries, values + positions, values, key_padding_mask=padding, need_weights=False)
        return self.ln_post(features) @ self.proj


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Two-dimensional sin-cos table [rows·columns, width], row-major: first half columns, second half rows."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def axis(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1).float()

    by_column = axis(columns)[None, :, :].expand(rows, -1, -1)
    by_row = axis(rows)[:, None, :].expand(-1, columns, -1)
    return torch.cat([by_column, by_row], dim=-1).flatten(0, 1)
