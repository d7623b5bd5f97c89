"""The resampler: one cross-attention layer that maps any number of patches to a fixed number of features.

`N` slices · `L` patches of the longest slice · `D_v` vision width · `Q` queries · `D` language width

Learned queries attend to the projected patches. Keys have two-dimensional positional embeddings, values have none.
Source: the published weights and `nn.MultiheadAttention`, whose packed `in_proj` they use. The versions differ only in
their positional embeddings (`versions.VERSIONS`):

| | queries | keys |
|---|---|---|
| OmniLMM-12B, MiniCPM-V 1.0 | a stored table | the same table, interpolated to the slice's grid (plain bicubic) |
| MiniCPM-V 2.0 | a stored table | sin-cos of the slice's own grid |
| MiniCPM-V 2.5 and later | none | sin-cos of the slice's own grid |
| video frames in 4.5 | none | the same, plus sin-cos of the frame's time; a group of frames is resampled together |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnilmm.versions import Positions

HEAD_WIDTH = 128  # in every published checkpoint: heads = width // 128, independent of the language model's heads


class Resampler(nn.Module):
    """Patch features -> `queries` features in the language model's width.

    Args:
        queries: number of features; a square number unless `positions` is "computed".
        width: hidden size of the language model.
        vision_width: hidden size of the vision tower.
        positions: positional embeddings: "computed" (2.5 and later), "stored" for the queries only (2.0), or
            "stretched", stored for the queries and interpolated for the keys (1.0, 12B).
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

    def forward(
        self, patches: Tensor, target_sizes: Tensor, temporal_ids: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """Resample patches to features.

        Args:
            patches: [N, L, D_v]; rows past a slice's own patches are ignored.
            target_sizes: [N, 2] (rows, columns) of each slice in patches.
            temporal_ids: times of the N slices in order, group by group, in tenths of a second; -1 for a still
                picture. None if each slice is a still picture of its own.

        Returns:
            [N, Q, D], or [G, Q, D] for G groups.

        Raises:
            ValueError: The number of times in the groups differs from the number of slices.
        """
        values = self.ln_kv(self.kv_proj(patches))
        positions = torch.zeros_like(values)
        for index, (rows, columns) in enumerate(target_sizes.tolist()):
            positions[index, : rows * columns] = self.key_positions(rows, columns).to(values)
        padding = torch.arange(values.shape[1], device=values.device)[None, :] >= target_sizes.prod(dim=1)[:, None]
        queries = self.ln_q(self.query)
        if self.positions != "computed":
            queries = queries + self.pos_embed
        keys = values + positions
        if temporal_ids is not None:
            times = [time for group in temporal_ids for time in group]
            if len(times) != len(keys):
                raise ValueError(f"There are {len(keys)} slices, but times of {len(times)}.")
            keys = keys + sincos_times(times, keys.shape[2]).to(keys)[:, None, :]
            frames = [len(group) for group in temporal_ids]
            keys, values = side_by_side(keys, frames, 0.0), side_by_side(values, frames, 0.0)
            padding = side_by_side(padding, frames, True)
        queries = queries.expand(len(values), -1, -1)
        features, _ = self.attn(queries, keys, values, key_padding_mask=padding, need_weights=False)
        return self.ln_post(features) @ self.proj

    def key_positions(self, rows: int, columns: int) -> Tensor:
        """Return the positional embeddings for the keys of a slice, [rows·columns, D] in float32."""
        if self.positions != "stretched":
            return sincos_positions(rows, columns, self.query.shape[1])
        side = round(len(self.pos_embed) ** 0.5)
        square = self.pos_embed.float().view(1, side, side, -1).permute(0, 3, 1, 2)
        # Without antialias, unlike the interpolation of the vision tower's positional embeddings.
        return F.interpolate(square, size=(rows, columns), mode="bicubic").flatten(2)[0].t()


def side_by_side(slices: Tensor, frames: Sequence[int], filling: float) -> Tensor:
    """Concatenate the frames of each group and pad shorter groups, [N, L, …] -> [G, F·L, …].

    Args:
        slices: values of N frames.
        frames: number of frames of each of the G groups; F is their maximum.
        filling: padding value.
    """
    length, most = slices.shape[1], max(frames)
    groups = slices.new_full((len(frames), most * length, *slices.shape[2:]), filling)
    for row, group in zip(groups, slices.split(list(frames)), strict=True):
        row[: len(group) * length] = group.flatten(0, 1)
    return groups


def sincos_times(times: Sequence[int], width: int) -> Tensor:
    """Return the sin-cos embeddings of times, [N, width] in float32; zeros for negative times (still pictures).

    The checkpoint was trained with these float32 expressions of numpy; torch's power gives rows for late times that
    differ by 4e-3. Source: the code of MiniCPM-V 4.5's resampler.
    """
    omega = np.arange(width // 2, dtype=np.float32)
    omega /= width / 2.0
    omega = np.float32(1.0) / np.float32(10000.0) ** omega
    angles = np.array(times, np.float32)[:, None] * omega
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    table[np.array(times) < 0] = 0.0
    return torch.from_numpy(table)


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return the 2-D sin-cos embeddings [rows·columns, width], row-major: first half columns, second half rows."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def axis(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1).float()

    by_column = axis(columns)[None, :, :].expand(rows, -1, -1)
    by_row = axis(rows)[:, None, :].expand(-1, columns, -1)
    return torch.cat([by_column, by_row], dim=-1).flatten(0, 1)
