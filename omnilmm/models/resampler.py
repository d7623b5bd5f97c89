"""The resampler: one cross-attention layer that turns any number of patches into a fixed number of features.

`N` slices · `L` patches of the longest slice · `D_v` vision width · `Q` queries · `D` language width

Learned queries attend to the projected patches. Keys carry two-dimensional positions, values carry none. Source: the
published weights and `nn.MultiheadAttention`, whose packed `in_proj` they use. The versions differ in positions alone
(`versions.VERSIONS`):

| | queries | keys |
|---|---|---|
| OmniLMM-12B, MiniCPM-V 1.0 | a stored table | the same table, stretched to the slice's grid (plain bicubic) |
| MiniCPM-V 2.0 | a stored table | sin-cos of the slice's own grid |
| MiniCPM-V 2.5 and later | none | sin-cos of the slice's own grid |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnilmm.versions import Positions

HEAD_WIDTH = 128  # of every published checkpoint: heads = width // 128, whatever the language model has


class Resampler(nn.Module):
    """Patch features -> `queries` features in the language model's width.

    Args:
        queries: how many features; a square number unless `positions` are "computed".
        width: of the language model.
        vision_width: of the patches.
        positions: "computed" (2.5, 2.6), "stored" for the queries alone (2.0), "stretched": stored, and stretched
            for the keys (1.0, 12B).
    """

    def __init__(self, queries: int, width: int, vision_width: int, positions: Positions = "computed") -> None:
        super().__init__()
        self.positions = positions
        self.query = nn.Parameter(torch.zeros(queries, width))
        if positions != "computed":
            self.pos_embed = nn.Parameter(torch.zeros(queries, width))
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
            positions[index, : rows * columns] = self.key_positions(rows, columns).to(values)
        padding = torch.arange(values.shape[1], device=values.device)[None, :] >= target_sizes.prod(dim=1)[:, None]
        queries = self.ln_q(self.query)
        if self.positions != "computed":
            queries = queries + self.pos_embed
        queries = queries.expand(len(values), -1, -1)
        features, _ = self.attn(queries, values + positions, values, key_padding_mask=padding, need_weights=False)
        return self.ln_post(features) @ self.proj

    def key_positions(self, rows: int, columns: int) -> Tensor:
        """What is added to the keys of a slice, [rows·columns, D] in float32."""
        if self.positions != "stretched":
            return sincos_positions(rows, columns, self.query.shape[1])
        side = round(len(self.pos_embed) ** 0.5)
        square = self.pos_embed.float().view(1, side, side, -1).permute(0, 3, 1, 2)
        # Without antialias: another kernel than the one that stretches the tower's positions.
        return F.interpolate(square, size=(rows, columns), mode="bicubic").flatten(2)[0].t()


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Two-dimensional sin-cos table [rows·columns, width], row-major: first half columns, second half rows."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def axis(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1).float()

    by_column = axis(columns)[None, :, :].expand(rows, -1, -1)
    by_row = axis(rows)[:, None, :].expand(-1, columns, -1)
    return torch.cat([by_column, by_row], dim=-1).flatten(0, 1)
