"""The vision tower of OmniLMM-12B and MiniCPM-V 1.0 and 2.0: a plain vision transformer with timm's tensor names.

`N` slices · `L` patches of the longest slice · `P` patch side · `D` width · `G` side of the positional embedding table

Sources: timm's `vit_so400m_patch14_siglip_384` (pre-norm, for 1.0 and 2.0) and `eva02_enormous_patch14_clip_224`
(class token, norms on the outputs of the branches, for 12B), whose outputs are in the golden files. timm itself is not
used: it cannot be imported without torchvision, which has no CPU build for Linux on PyPI. Three details are easy to
miss:

* for other grids than the stored one, positional embeddings are interpolated with `antialias=True`, which differs from
  plain bicubic interpolation even when enlarging;
* GELU is exact, not the tanh approximation of the later towers;
* the checkpoints leave out the last block but still apply the final norm.
"""

from __future__ import annotations

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer


@strict
class ViTConfig(PreTrainedConfig):
    """Sizes of the tower; the defaults are SigLIP-400M without its last block.

    Attributes:
        image_size: `image_size // patch_size` is G.
        class_token: prepend a class token, which has a row in `pos_embed` and is dropped from the output.
        post_norm: apply the norms to the outputs of attention and MLP instead of their inputs.
        key_bias: use one bias for q, k and v; otherwise q and v each have a bias and k has none.
    """

    model_type = "timm_vit"

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 26
    num_attention_heads: int = 16
    image_size: int = 384
    patch_size: int = 14
    layer_norm_eps: float = 1e-6
    class_token: bool = False
    post_norm: bool = False
    key_bias: bool = True


class Attention(nn.Module):
    """Self-attention with a fused QKV projection."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(width, 3 * width, bias=config.key_bias)
        if not config.key_bias:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.key_bias = config.key_bias
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, D] -> [N, L, D]."""
        qkv = self.qkv(x)
        if not self.key_bias:
            qkv = qkv + torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [N, heads, L, D / heads] each
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[…, D] -> […, D]."""
        return self.fc2(F.gelu(self.fc1(x)))


class ViTBlock(GradientCheckpointingLayer):
    """Attention and MLP, each with a residual connection."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.post_norm = config.post_norm

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, D] -> [N, L, D]."""
        if self.post_norm:
            x = x + self.norm1(self.attn(x))
            return x + self.norm2(self.mlp(x))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patch embedding."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size)

    def forward(self, strips: Tensor) -> Tensor:
        """[N, 3, P, P·L] -> [N, L, D]."""
        return self.proj(strips.to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """Slices -> patch features; slices of the same grid are encoded in one batch."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.extra = int(config.class_token)
        self.patch_embed = PatchEmbed(config)
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extra + self.side**2, config.hidden_size))
        self.blocks = nn.ModuleList(ViTBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, strips: Tensor, target_sizes: Tensor) -> Tensor:
        """Encode slices.

        Args:
            strips: [N, 3, P, P·L] normalised pixels, zeros where a slice is shorter than L patches.
            target_sizes: [N, 2] (rows, columns) of each slice in patches.

        Returns:
            [N, L, D]; rows past a slice's own patches are zero.
        """
        grids = [(rows, columns) for rows, columns in target_sizes.tolist()]
        length, patch = strips.shape[-1] // strips.shape[-2], strips.shape[-2]
        features: Any = None
        for grid in dict.fromkeys(grids):
            own = grid[0] * grid[1]
            rows = [index for index, other in enumerate(grids) if other == grid]
            seen = self.norm(self.encode(self.embed(strips[rows, ..., : own * patch], grid)))[:, self.extra :]
            if features is None:
                features = seen.new_zeros(len(strips), length, seen.shape[-1])
            features[rows, :own] = seen
        return features

    def embed(self, strips: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embed slices of one grid, [n, 3, P, P·rows·columns] -> [n, extra + rows·columns, D], with positions."""
        patches = self.patch_embed(strips)
        if self.extra:
            patches = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return patches + self.positions(grid)

    def encode(self, x: Tensor) -> Tensor:
        """Run all blocks, [n, L, D] -> [n, L, D], without the final norm."""
        for block in self.blocks:
            x = block(x)
        return x

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positional embeddings [1, extra + rows·columns, D], interpolated unless they fit the grid."""
        table = self.pos_embed
        if grid == (self.side, self.side):
            return table
        extra, square = table[:, : self.extra], table[:, self.extra :]
        square = square.float().unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        fitted = F.interpolate(square, size=grid, mode="bicubic", antialias=True)
        return torch.cat([extra, fitted.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)
