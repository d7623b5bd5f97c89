"""Configurations of the checkpoints, compatible with the `config.json` on the hub.

On the hub, all versions of MiniCPM-V have the same `model_type` and `architectures`, and the language model's keys are
flat beside the vision keys. `MiniCPMVConfig` resolves the version once, keeps the language model's keys in
`text_config` and the vision tower's in `vision_config`, and writes the hub's flat schema again, so that a saved folder
stays readable elsewhere. `OmniLMMConfig` is Mistral's with a few more keys.

The config.json of 1.0, 2.0 and 12B on the hub names the vision tower instead of giving its sizes; different sizes may
be given as `vision_config`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import transformers
from huggingface_hub.dataclasses import strict
from transformers import GraniteConfig, MistralConfig, PreTrainedConfig
from transformers.models.idefics2.configuration_idefics2 import Idefics2VisionConfig

from omnilmm.checkpoint_json import check_numbers
from omnilmm.errors import CheckpointError
from omnilmm.images.pixels import CLIP, HALF, Normalisation
from omnilmm.images.slicing import Size, SlicePlan, SlicingRules, plan_slices
from omnilmm.models.vit import ViTConfig
from omnilmm.versions import OMNI_TYPE, VERSIONS, Version, version_of

# SigLIP-400M at 980 pixels, the vision tower of 2.5 and 2.6, for a config.json that leaves it out.
NAVIT = {
    "hidden_size": 1152,
    "image_size": 980,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
}
# EVA02-E without its last block, the vision tower of 12B. The defaults of ViTConfig are the tower of 1.0 and 2.0.
EVA = {
    "hidden_size": 1792,
    "intermediate_size": 15360,
    "num_hidden_layers": 63,
    "image_size": 224,
    "class_token": True,
    "post_norm": True,
    "key_bias": False,
}
# MiniCPM's language model is Granite with these multipliers, which are derived from MiniCPM's own keys.
MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier")
# Keys from which the version is recognised.
TELLING = ("version", "vision_encoder", "scale_emb", "scale_depth", "dim_model_base", "slice_mode", "vision_config")
SOUND_KEYS = ("audio_config", "tts_config", "init_audio", "init_tts")
SLICING_KEYS = ("max_slice_nums", "scale_resolution", "patch_size")


def _without_leftovers(dtype: Any, keys: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the dtype and the other keys of a `config.json`, without leftovers of training.

    A dtype of "auto" counts as none and "torch.bfloat16" as bfloat16. Flash attention is dropped, as it is a setting of
    the training machine and these models do not support it.

    Raises:
        CheckpointError: The dtype is not a dtype of torch.
    """
    kept = {key: value for key, value in keys.items() if (key, value) != ("dtype", "auto")}
    for key in ("attn_implementation", "_attn_implementation"):
        if str(kept.get(key)).startswith("flash"):
            del kept[key]
    old = kept.pop("torch_dtype", None)
    dtype = dtype if dtype is not None else old
    if isinstance(dtype, str):
        dtype = None if dtype == "auto" else dtype.removeprefix("torch.")
        if dtype is not None and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise CheckpointError("unknown_torch_dtype", dtype=dtype)
    return dtype, kept


def _given(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the numbers and dicts of a config under construction; sub-configs that are built were checked already."""
    return {key: value for key, value in vars(config).items() if isinstance(value, int | float | dict)}


@strict
class MiniCPMVConfig(PreTrainedConfig):
    """Configuration of the MiniCPM-V checkpoints in `versions.VERSIONS`.

    Attributes:
        version: a key of `VERSIONS`; the hub writes a string, a number, or (1.0, 2.0, early 2.5) nothing.
        text_config: the language model.
        vision_config: the vision tower. `image_size // patch_size` is the side of its positional embedding table.
        vision_encoder: timm's name of the vision tower (1.0, 2.0).
        query_num: resampler outputs per slice.
        slice_config: `max_slice_nums`, `scale_resolution`, `patch_size`; flat keys in 2.0, none in 1.0.
        image_size: 1.0 resizes every picture to this square.
        scale_emb, scale_depth, dim_model_base: MiniCPM's scalings (1.0, 2.0).
        use_image_id: 2.6 numbers the pictures of a conversation in the prompt.
        batch_vision_input: 2.5 pads all slices of a prompt to the longest one (its features depend on it).
        vision_batch_size: maximum number of slices that go through the vision tower at once.
    """

    model_type = "minicpmv"
    sub_configs_defaults = {"vision_config": Idefics2VisionConfig}

    version: str | float | None = None
    # Given as dicts or config objects, or left out; resolved in `__post_init__`.
    text_config: Any = None
    vision_config: Any = None
    slice_config: Any = None
    vision_encoder: str | None = None
    query_num: int = 64
    image_size: int = 448
    scale_emb: float | int | None = None
    scale_depth: float | int | None = None
    dim_model_base: int | None = None
    use_image_id: bool = True
    batch_vision_input: bool = True
    vision_batch_size: int = 16
    drop_vision_last_layer: bool = False
    slice_mode: bool | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the version, then distribute the flat keys to the language model and the vision tower."""
        self.dtype, kwargs = _without_leftovers(getattr(self, "dtype", None), kwargs)
        check_numbers("config.json", _given(self) | kwargs)
        given = {name: value for name in TELLING if (value := getattr(self, name)) is not None}
        self.version = version_of({"query_num": self.query_num, **given, **kwargs})
        if self.version not in VERSIONS:
            raise CheckpointError("unsupported_config_version", version=self.version, supported=list(VERSIONS))
        is_flat = self.row.vision_type is None
        rules = {key: kwargs.pop(key) for key in SLICING_KEYS if is_flat and key in kwargs}
        self._read_vision()
        self._read_text(kwargs)
        rules |= dict(self.slice_config or {})
        self.slice_config = {
            "max_slice_nums": rules.get("max_slice_nums", 9),
            "scale_resolution": rules.get("scale_resolution", 448),
            "patch_size": rules.get("patch_size", self.vision_config.patch_size),
            "model_type": "minicpmv",
        }
        super().__post_init__(**kwargs)

    def _read_vision(self) -> None:
        if isinstance(self.vision_config, PreTrainedConfig):
            return
        given = _without_leftovers(None, dict(self.vision_config or {}))[1]
        given.pop("model_type", None)
        is_navit = self.row.vision_type is not None
        self.vision_config = Idefics2VisionConfig(**(NAVIT | given)) if is_navit else ViTConfig(**given)

    def _read_text(self, kwargs: dict[str, Any]) -> None:
        if isinstance(self.text_config, PreTrainedConfig):
            return
        text_class: type[PreTrainedConfig] = getattr(transformers, self.row.text)
        text = _without_leftovers(None, dict(self.text_config or {}))[1]
        text.pop("model_type", None)
        known = set(text_class().to_dict()) | {"rope_theta", "rope_scaling", "use_sliding_window"}
        text |= {key: kwargs.pop(key) for key in list(kwargs) if key in known - set(PreTrainedConfig().to_dict())}
        text.setdefault("tie_word_embeddings", self.tie_word_embeddings)
        # MiniCPM-Llama3-V 2.5 publishes use_cache false, a leftover of training; generation needs the cache.
        text["use_cache"] = True
        self.text_config = text_class(**text)
        if text_class is GraniteConfig:
            self._scale(self.text_config)

    def _scale(self, text: PreTrainedConfig) -> None:
        """Set MiniCPM's scalings under Granite's names; `scale_emb` applies to text only (see `ScaledEmbedding`)."""
        text.embedding_multiplier = 1.0
        text.residual_multiplier = (self.scale_depth or 1.0) / math.sqrt(text.num_hidden_layers)
        text.logits_scaling = text.hidden_size / (self.dim_model_base or text.hidden_size)
        text.attention_multiplier = (text.hidden_size / text.num_attention_heads) ** -0.5

    @property
    def row(self) -> Version:
        """The row of `VERSIONS` for this version."""
        return VERSIONS[str(self.version)]

    @property
    def pads_to_longest(self) -> bool:
        """Whether slices are padded to the longest one of the prompt, on which their features then depend."""
        return self.row.pads_to_longest

    @property
    def normalisation(self) -> Normalisation:
        """Normalisation of the pixels."""
        return HALF

    @property
    def slicing_rules(self) -> SlicingRules:
        """Slicing parameters of the checkpoint."""
        rules = self.slice_config
        return SlicingRules(rules["max_slice_nums"], rules["scale_resolution"], rules["patch_size"])

    def plan(self, size: Size, max_slices: int | None = None) -> SlicePlan:
        """Return the slicing plan of a picture of (width, height), with at most `max_slices` slices; 1.0 resizes it."""
        if not self.row.is_sliced:
            return SlicePlan(overview=(self.image_size, self.image_size))
        rules = self.slicing_rules
        return plan_slices(size, replace(rules, max_slices=max_slices) if max_slices else rules)

    def to_dict(self) -> dict[str, Any]:
        """Return the hub's flat schema, with the language model's keys beside the vision keys."""
        flat = super().to_dict()
        text = flat.pop("text_config")
        rope = dict(text.pop("rope_parameters", None) or {})
        rope_theta = rope.pop("rope_theta", None)
        mine = set(flat) | {"model_type", *MULTIPLIERS}
        flat |= {key: value for key, value in text.items() if key not in mine}
        if rope_theta is not None:
            flat["rope_theta"] = rope_theta
        if rope.get("rope_type", "default") != "default":
            flat["rope_scaling"] = rope
        flat = {key: value for key, value in flat.items() if value is not None or key not in TELLING}
        if self.row.vision_type is not None:
            flat["version"] = self.row.written
            flat["vision_config"]["model_type"] = self.row.vision_type
            return flat
        # Only the slicing keys distinguish 2.0 from 1.0.
        slicing = flat.pop("slice_config")
        flat.pop("version")
        flat.pop("slice_mode", None)
        flat.setdefault("vision_encoder", "vit_so400m_patch14_siglip_384.webli")
        if self.row.is_sliced:
            flat |= {key: slicing[key] for key in SLICING_KEYS} | {"slice_mode": True}
        return flat


@strict
class MiniCPMOConfig(MiniCPMVConfig):
    """Configuration of a MiniCPM-o in `versions.VERSIONS`: that of the matching MiniCPM-V, without audio and speech."""

    model_type = OMNI_TYPE

    def __post_init__(self, **kwargs: Any) -> None:
        """Drop the keys of the audio and speech parts."""
        super().__post_init__(**{key: value for key, value in kwargs.items() if key not in SOUND_KEYS})


@strict
class OmniLMMConfig(MistralConfig):
    """Configuration of OmniLMM-12B and RLAIF-V-12B.

    Attributes:
        mm_vision_tower: timm's name of the vision tower.
        vision_config: sizes of the vision tower, where they differ from the named one's.
        image_size: every picture is resized to this square.
        num_query: features per picture.
        use_image_id: always False; pictures are not numbered.
    """

    model_type = "omnilmm"

    mm_vision_tower: str = "eva02_enormous_patch14_clip_224.laion2b_plus"
    vision_config: Any = None
    image_size: int = 448
    num_query: int = 256

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the sizes of the vision tower."""
        self.dtype, kwargs = _without_leftovers(getattr(self, "dtype", None), kwargs)
        check_numbers("config.json", _given(self) | kwargs)
        if not isinstance(self.vision_config, PreTrainedConfig):
            given = _without_leftovers(None, dict(self.vision_config or {}))[1]
            given.pop("model_type", None)
            self.vision_config = ViTConfig(**(EVA | given))
        # Published as false, a leftover of training; generation needs the cache.
        self.use_cache = True
        super().__post_init__(**kwargs)

    @property
    def query_num(self) -> int:
        """Features per picture, under MiniCPM-V's name."""
        return self.num_query

    @property
    def use_image_id(self) -> bool:
        """Always False: pictures are not numbered."""
        return False

    @property
    def pads_to_longest(self) -> bool:
        """Always False: every picture has the same size."""
        return False

    @property
    def normalisation(self) -> Normalisation:
        """Normalisation of the pixels."""
        return CLIP

    def plan(self, size: Size, max_slices: int | None = None) -> SlicePlan:
        """Return the plan of a picture: it is never sliced but resized to `image_size` squared."""
        return SlicePlan(overview=(self.image_size, self.image_size))
