"""Table of the supported versions of MiniCPM-V, one row each, with everything that differs between them.

A new version takes one row, a template in `prompts/` if that is new, and a card in `configs/`.
Classes and templates are given by name, so that importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from omnilmm.sentences import Sentence

Positions = Literal["stretched", "stored", "computed"]
Tokenizer = Literal["whole", "pieces", "vocabulary"]  # `tokenizer.json` alone, or also SentencePiece's or GPT-2's files


@dataclass(frozen=True)
class VideoSampling:
    """Frame sampling of a model that takes videos.

    Attributes:
        fps: sampled frames per second, as long as there are no more than `most`.
        most: maximum number of groups of frames, each of which takes as many features as one slice.
        packing: maximum number of frames per group.
        has_times: whether the model takes the time of each frame; otherwise frames are treated as several pictures.
        on_seconds: whether the frames at 0 s, 1 s, 2 s … are taken, as by the video processor of transformers.
        multiple: the sides of a frame are multiples of this, in pixels.
    """

    fps: float
    most: int
    packing: int = 1
    has_times: bool = False
    on_seconds: bool = False
    multiple: int = 14


# From the makers' example of 2.6 (docs/minicpm_v2dot6_en.md of OpenBMB/MiniCPM-V): one frame per second, 64 at most.
AS_PICTURES = VideoSampling(1.0, 64)
# The video processor of 4.6 and 4.7, with the makers' settings for videos; two merges of 2×2 patches of 14 pixels.
ON_SECONDS = VideoSampling(1.0, 128, on_seconds=True, multiple=56)


@dataclass(frozen=True)
class Version:
    """One version of MiniCPM-V, described by what differs between the versions.

    Attributes:
        title: official name.
        text: configuration class of the language model, in transformers.
        template: module in `omnilmm.prompts`.
        positions: positional embeddings of the resampler.
        vision_type: `model_type` in the `vision_config` on the hub; None for a timm vision tower without such a config.
        written: `version` in the `config.json` on the hub; None if the key is missing.
        is_sliced: whether pictures are sliced; otherwise they are resized to one square.
        pads_to_longest: all slices of a prompt are padded to the longest one, which affects their features.
        query_num: features of each slice, as in the published `config.json`.
        in_batches: at most `vision_batch_size` slices go through the vision tower at once.
        query_bias, query_norm, own_head_dim: whether the attention of the language model has a query bias, query norm
            or a head dimension of its own; they help to recognise the version from the tensors.
        tokenizer: possible file formats of the tokenizer.
        omni: official name of the MiniCPM-o with the same vision and language parts; None where there is none.
        video: frame sampling; None if the version was not made for videos.
        gguf: `clip.minicpmv_version` in llama.cpp, or why it cannot be exported for it.
    """

    title: str
    text: str
    template: str
    positions: Positions = "computed"
    _: KW_ONLY
    gguf: int | Sentence
    vision_type: str | None = "siglip"
    written: str | float | None = None
    is_sliced: bool = True
    pads_to_longest: bool = False
    query_num: int = 64
    in_batches: bool = False
    query_bias: bool = False
    query_norm: bool = False
    own_head_dim: bool = False
    tokenizer: Tokenizer = "vocabulary"
    omni: str | None = None
    video: VideoSampling | None = None


VERSIONS = {
    "1.0": Version(
        "MiniCPM-V 1.0",
        "GraniteConfig",
        "minicpm",
        "stretched",
        vision_type=None,
        is_sliced=False,
        tokenizer="pieces",
        gguf=Sentence("not_gguf_not_sliced"),
    ),
    "2.0": Version(
        "MiniCPM-V 2.0",
        "GraniteConfig",
        "minicpm",
        "stored",
        vision_type=None,
        tokenizer="pieces",
        gguf=Sentence("not_gguf_timm"),
    ),
    "2.5": Version(
        "MiniCPM-Llama3-V 2.5",
        "LlamaConfig",
        "llama3",
        vision_type="idefics2",
        written="2.5",
        pads_to_longest=True,
        query_num=96,
        tokenizer="whole",
        gguf=2,
    ),
    "2.6": Version(
        "MiniCPM-V 2.6",
        "Qwen2Config",
        "chatml",
        written=2.6,
        in_batches=True,
        query_bias=True,
        omni="MiniCPM-o 2.6",
        video=AS_PICTURES,
        gguf=3,
    ),
    "4.0": Version(
        "MiniCPM-V 4.0",
        "LlamaConfig",
        "minicpm4",
        written=4.0,
        in_batches=True,
        own_head_dim=True,
        tokenizer="pieces",
        video=AS_PICTURES,
        gguf=Sentence("not_gguf_longrope"),
    ),
    "4.5": Version(
        "MiniCPM-V 4.5",
        "Qwen3Config",
        "qwen3",
        written=4.5,
        in_batches=True,
        query_norm=True,
        omni="MiniCPM-o 4.5",
        video=VideoSampling(5.0, 180, packing=3, has_times=True),
        gguf=100045,
    ),
}


# `model_type` of MiniCPM-o, and the prefixes of its audio and speech tensors.
OMNI_TYPE = "minicpmo"
SOUND = ("apm.", "audio_projection_layer.", "audio_avg_pooler.", "tts.")


def omni_row(config: Mapping[str, Any]) -> Version | None:
    """Return the version that a MiniCPM-o shares its vision and language parts with; None if it is not supported."""
    row = VERSIONS.get(version_of(config)) if config.get("version") is not None else None
    return row if row is not None and row.omni else None


def without_sound(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the tensors without those of the audio and speech parts."""
    return {name: shape for name, shape in shapes.items() if not name.startswith(SOUND)}


def version_of(config: Mapping[str, Any]) -> str:
    """Return the version of MiniCPM-V that a `config.json` describes: a key of `VERSIONS`, else its own `version`.

    All versions share one `model_type`. 1.0 and 2.0 have no version key and the same tensors, but only 2.0 has slicing
    rules; 2.5 had no version key before July 2024. JSON may contain 4 instead of 4.0.
    """
    if config.get("version") is not None:
        version = str(config["version"])
        return f"{version}.0" if f"{version}.0" in VERSIONS else version
    if "vision_encoder" in config or "scale_emb" in config:
        return "2.0" if any(key in config for key in ("slice_mode", "max_slice_nums", "scale_resolution")) else "1.0"
    vision = config.get("vision_config")
    is_early = isinstance(vision, dict) and vision.get("model_type") == "idefics2"
    return "2.5" if is_early or config.get("query_num") == VERSIONS["2.5"].query_num else "2.6"


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the models that tensors of these names and shapes may belong to; empty if none is known.

    Args:
        shapes: shapes by tensor name; () where a shape is not known.
    """
    if any(name.startswith("model.vision_tower.") for name in shapes):
        return ["OmniLMM-12B"]
    if not any(name.startswith(("vpm.blocks.", "vpm.encoder.")) for name in shapes):
        return []
    is_timm = any(name.startswith("vpm.blocks.") for name in shapes)
    bias, norm = (
        any(name.startswith("llm.") and name.endswith(f"self_attn.{end}") for name in shapes)
        for end in ("q_proj.bias", "q_norm.weight")
    )
    queries = [s for name, s in shapes.items() if name.startswith("llm.") and name.endswith("self_attn.q_proj.weight")]
    # Packed weights (int4) have a single column, which says nothing about the head dimension.
    own_dim = {rows != columns for rows, columns in (shape for shape in queries if shape and shape[-1] > 1)} or {
        False,
        True,
    }
    return [
        version.title
        for version in VERSIONS.values()
        if (version.vision_type is None, version.query_bias, version.query_norm) == (is_timm, bias, norm)
        and (is_timm or norm or version.own_head_dim in own_dim)
    ]
