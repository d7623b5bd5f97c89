"""Vision tower and resampler as the mmproj file of llama.cpp.

`S` side of the positional embedding table · `D` width of the tower

llama.cpp finds the position of patch i of n as `floor(70·i/n)` in a table of 70×70, the size that the published models
have. A table of another side is stretched to that: each of the 70 rows gets the row that the checkpoint would use.
Where two lengths n want different rows of the same place, the length closest to an unsliced square picture wins;
`inexact_lengths` lists the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial

import gguf
import torch
from torch import Tensor

from omnilmm.errors import CheckpointError
from omnilmm.export.tensors import Weights
from omnilmm.export.writing import Stored, Type, kind_of
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.vision import fractional_buckets

SIDE = 70  # of llama.cpp's table
LONGEST = 70  # most patches along a side of a slice, far beyond what the slicing rules give
RESAMPLER = {
    "resampler.query": "resampler.query",
    "resampler.kv_proj.weight": "resampler.kv.weight",
    "resampler.attn.out_proj.weight": "resampler.attn.out.weight",
    "resampler.attn.out_proj.bias": "resampler.attn.out.bias",
}
PARTS = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
WHOLE = {
    "vpm.embeddings.patch_embedding": "v.patch_embd",
    "vpm.embeddings.position_embedding": "v.position_embd",
    "vpm.post_layernorm": "v.post_ln",
}


def add_metadata(writer: gguf.GGUFWriter, config: MiniCPMVConfig) -> None:
    """Add the sizes of the vision tower and of the resampler."""
    vision = config.vision_config
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("resampler")
    writer.add_int32("clip.minicpmv_version", config.row.gguf)
    writer.add_uint32("clip.minicpmv_query_num", config.query_num)
    writer.add_vision_image_size(config.slicing_rules.scale_resolution)  # of a slice
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_block_count(vision.num_hidden_layers)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_image_mean(list(config.normalisation.mean))
    writer.add_vision_image_std(list(config.normalisation.std))
    writer.add_vision_use_gelu(True)


def vision_tensors(weights: Weights, config: MiniCPMVConfig, wanted: Type) -> dict[str, Stored]:
    """Return the tensors of the mmproj file by their names in llama.cpp; q8_0 is written as f16, as is usual there.

    Args:
        weights: of the whole checkpoint.
        config: its configuration.
        wanted: the type of the matrices.
    """
    wanted = "f16" if wanted == "q8_0" else wanted
    found: dict[str, Stored] = {}
    for name, shape in weights.shapes.items():
        read: Callable[[], Tensor] = partial(weights.read, name)
        if name == "vpm.embeddings.position_embedding.weight":
            found["v.position_embd.weight"] = _positions(read, shape, config)
        elif name == "resampler.proj":
            turned = (shape[1], shape[0])
            found["resampler.proj.weight"] = Stored(turned, kind_of(turned, wanted), partial(_turned, read))
        elif name.startswith("resampler.attn.in_proj_"):
            third, kind = (shape[0] // 3, *shape[1:]), name.rpartition("_")[2]
            for index, part in enumerate("qkv"):
                stored = Stored(third, kind_of(third, wanted), partial(_third, read, index))
                found[f"resampler.attn.{part}.{kind}"] = stored
        elif name.startswith(("vpm.", "resampler.")):
            plain = name == "resampler.query"
            found[_name(name)] = Stored(shape, kind_of(shape, "f32" if plain else wanted), read)
    # Computed where it is needed since 2025, but the file must still have it.
    unused = (1, config.text_config.hidden_size)
    found["resampler.pos_embed_k"] = Stored(unused, kind_of(unused, "f32"), lambda: torch.zeros(unused))
    return found


def _name(name: str) -> str:
    if name.startswith("resampler."):
        return RESAMPLER.get(name, name)  # the three norms have the same names
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    _, _, _, layer, part = stem.split(".", 4)
    return f"v.blk.{layer}.{PARTS[part]}.{kind}"


def _turned(read: Callable[[], Tensor]) -> Tensor:
    return read().t()


def _third(read: Callable[[], Tensor], index: int) -> Tensor:
    return read().chunk(3)[index]


def _positions(read: Callable[[], Tensor], shape: tuple[int, ...], config: MiniCPMVConfig) -> Stored:
    side = round(shape[0] ** 0.5)
    if side > SIDE:
        raise CheckpointError("position_table_too_large", side=side, most=SIDE)
    rows = torch.tensor(stretched(side, usual_length(config)))
    places = (rows[:, None] * side + rows[None, :]).flatten()
    whole = (SIDE * SIDE, shape[1])
    return Stored(whole, kind_of(whole, "f32"), lambda: read()[places])


def usual_length(config: MiniCPMVConfig) -> int:
    """Return the patches along a side of an unsliced square picture."""
    rules = config.slicing_rules
    return rules.scale_resolution // rules.patch_size


@cache
def stretched(side: int, usual: int) -> tuple[int, ...]:
    """Return the row of a table of `side` rows for each of llama.cpp's 70.

    Args:
        side: side of the checkpoint's table.
        usual: the length whose positions are right in any case.
    """
    if side == SIDE:
        return tuple(range(SIDE))
    votes: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for length in range(1, LONGEST + 1):
        weight = 1e6 if length == usual else 1 / (1 + abs(length - usual)) ** 2
        for place, row in _places(length, side):
            votes[place][row] += weight
    return tuple(
        max(votes[place], key=votes[place].__getitem__) if votes[place] else place * side // SIDE
        for place in range(SIDE)
    )


def inexact_lengths(config: MiniCPMVConfig) -> list[int]:
    """Return the numbers of patches along a side for which llama.cpp uses other positions than the checkpoint."""
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    rows = stretched(side, usual_length(config))
    lengths = range(1, 2 * usual_length(config) + 1)
    return [length for length in lengths if any(rows[place] != row for place, row in _places(length, side))]


def _places(length: int, side: int) -> list[tuple[int, int]]:
    """Return llama.cpp's place and the checkpoint's row of each of `length` patches."""
    return [(SIDE * i // length, row) for i, row in enumerate(fractional_buckets(length, side).tolist())]
