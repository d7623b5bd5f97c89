"""The configuration of MiniCPM-V checkpoints, read from the hub's own `config.json`.

The hub gives every version the same `model_type` and `architectures`, and writes the language model's keys flat beside
the vision keys. `MiniCPMVConfig` resolves the version once, keeps the language model's keys as `text_config` and the
tower's as `vision_config`, and writes the hub's flat schema again, so that a saved folder stays readable elsewhere.

Versions built so far: "2.5" (MiniCPM-Llama3-V 2.5: Llama) and "2.6" (MiniCPM-V 2.6 and the built-in model: Qwen2).
"""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config
from transformers.models.idefics2.configuration_idefics2 import Idefics2VisionConfig

from omnilmm.errors import CheckpointError
from omnilmm.images.slicing import SlicingRules

TEXT_CONFIGS: dict[str, type[PreTrainedConfig]] = {"2.5": LlamaConfig, "2.6": Qwen2Config}
VISION_MODEL_TYPES = {"2.5": "idefics2", "2.6": "siglip"}
# The tower of both versions (SigLIP-400M at 980 pixels), for a config.json that leaves it out.
VISION_DEFAULTS = {
    "hidden_size": 1152,
    "image_size": 980,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
}


@strict
class MiniCPMVConfig(PreTrainedConfig):
    """Configuration of MiniCPM-V 2.5 and 2.6 checkpoints.

    Attributes:
        version: "2.5" or "2.6"; the hub writes a string, a number, or (early 2.5) nothing.
        text_config: the language model, a `LlamaConfig` or `Qwen2Config`.
        vision_config: the tower. `image_size // patch_size` is the side of its table of positions.
        query_num: resampler outputs per slice.
        slice_config: `max_slice_nums`, `scale_resolution`, `patch_size`.
        use_image_id: 2.6 numbers the pictures of a conversation in the prompt.
        batch_vision_input: 2.5 pads all slices of a prompt to the longest one (its features depend on it).
        vision_batch_size: at most this many slices go through the tower at once.
    """

    model_type = "minicpmv"
    sub_configs_defaults = {"vision_config": Idefics2VisionConfig}

    version: str | float | None = None
    # Given as dicts or configurations, or left out; resolved below.
    text_config: Any = None
    vision_config: Any = None
    slice_config: Any = None
    query_num: int = 64
    image_size: int = 448
    use_image_id: bool = True
    batch_vision_input: bool = True
    vision_batch_size: int = 16
    drop_vision_last_layer: bool = False
    slice_mode: bool = True
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the version, then share the flat keys out to the language model and the tower."""
        self.version = _resolve_version(self.version, self.vision_config, self.query_num, kwargs)
        if not isinstance(self.vision_config, PreTrainedConfig):
            given = dict(self.vision_config or {})
            given.pop("model_type", None)
            self.vision_config = Idefics2VisionConfig(**(VISION_DEFAULTS | given))
        if not isinstance(self.text_config, PreTrainedConfig):
            text_class = TEXT_CONFIGS[self.version]
            text = dict(self.text_config or {})
            text.pop("model_type", None)
            known = set(text_class().to_dict()) | {"rope_theta", "rope_scaling", "use_sliding_window"}
            text |= {key: kwargs.pop(key) for key in list(kwargs) if key in known - set(PreTrainedConfig().to_dict())}
            text.setdefault("tie_word_embeddings", self.tie_word_embeddings)
            # MiniCPM-Llama3-V 2.5 publishes use_cache false, a leftover of training; generation needs the cache.
            text["use_cache"] = True
            self.text_config = text_class(**text)
        slice_config = dict(self.slice_config or {})
        self.slice_config = {
            "max_slice_nums": slice_config.get("max_slice_nums", 9),
            "scale_resolution": slice_config.get("scale_resolution", 448),
            "patch_size": slice_config.get("patch_size", self.vision_config.patch_size),
            "model_type": "minicpmv",
        }
        super().__post_init__(**kwargs)

    @property
    def slicing_rules(self) -> SlicingRules:
        """The numbers that decide how pictures are cut."""
        rules = self.slice_config
        return SlicingRules(rules["max_slice_nums"], rules["scale_resolution"], rules["patch_size"])

    def to_dict(self) -> dict[str, Any]:
        """The hub's flat schema: the language model's keys lie beside the vision keys."""
        flat = super().to_dict()
        text = flat.pop("text_config")
        rope_theta = (text.get("rope_parameters") or {}).get("rope_theta")
        mine = set(flat) | {"model_type"}
        flat |= {key: value for key, value in text.items() if key not in mine}
        if rope_theta is not None:
            flat["rope_theta"] = rope_theta
        flat["version"] = 2.6 if self.version == "2.6" else self.version  # a number there, a string in 2.5
        flat["vision_config"]["model_type"] = VISION_MODEL_TYPES[str(self.version)]
        return flat


def _resolve_version(version: str | float | None, vision_config: Any, query_num: int, keys: dict[str, Any]) -> str:
    if version is None:
        vision_type = vision_config.get("model_type") if isinstance(vision_config, dict) else None
        # MiniCPM-Llama3-V 2.5 had no version key before July 2024.
        version = "2.5" if vision_type == "idefics2" or query_num == 96 else None
    if version is None and "vision_encoder" in keys:
        raise CheckpointError(
            "This config.json belongs to MiniCPM-V 1.0 or 2.0, which are not supported yet; "
            f"supported versions: {', '.join(TEXT_CONFIGS)}."
        )
    if version is None:
        version = "2.6"
    if str(version) not in TEXT_CONFIGS:
        raise CheckpointError(
            f"config.json says MiniCPM-V version {version!r}; supported versions: {', '.join(TEXT_CONFIGS)}."
        )
    return str(version)
