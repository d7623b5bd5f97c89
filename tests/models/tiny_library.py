"""Folders of checkpoints whose models transformers has itself, with some ten thousand random weights each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    LlavaConfig,
    MiniCPMV4_6Config,
    MiniCPMV4_7Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
)

from tests.prompts.byte_tokenizer import byte_tokenizer

END, PAD = "<|im_end|>", "<|endoftext|>"
CONTROLS = (PAD, "<|im_start|>", END, "<|vision_start|>", "<|vision_end|>")
# Attributes that MiniCPM's processor reads off its tokenizer.
NAMED = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}
GROUNDING = ("<box>", "</box>", "<|box_start|>", "<|box_end|>")
THINKING = ("<think>", "</think>")
# As Qwen's: content as a string or as a list; what an answer thought is not repeated.
TEMPLATE = """\
{%- macro parts(content) %}{% if content is string %}{{ content }}{% else %}{% for part in content %}\
{% if part.type == 'image' %}{{ PICTURE }}{% elif part.type == 'video' %}{{ '<|video_pad|>' }}\
{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endmacro -%}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}\
{{ parts(message.content).split('</think>')[-1] if message.role == 'assistant' else parts(message.content) }}\
{{ '<|im_end|>\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
LINEAR = {
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
SLICES = {"image_processor_type": "MiniCPMV4_6ImageProcessor", "scale_resolution": 112, "max_slice_nums": 4}


def tokenizer() -> PreTrainedTokenizerFast:
    """Single bytes and every token that the four models need."""
    tokens = byte_tokenizer([*CONTROLS, *NAMED.values(), *GROUNDING])
    tokens.add_tokens(list(THINKING))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens.backend_tokenizer,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        **NAMED,
    )


def _minicpm(kind: type[PreTrainedConfig], ids: dict[str, int], **more: Any) -> PreTrainedConfig:
    return kind(
        text_config={"model_type": "qwen3_5_text", "vocab_size": len(ids), **TEXT, **LINEAR},
        vision_config={**TOWER, "image_size": 112},
        insert_layer_id=0,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        **more,
    )


def _minicpm_v_4_6(ids: dict[str, int]) -> tuple[PreTrainedConfig, dict[str, Any], str]:
    return _minicpm(MiniCPMV4_6Config, ids), SLICES, "<|image_pad|>"


def _minicpm_v_4_7(ids: dict[str, int]) -> tuple[PreTrainedConfig, dict[str, Any], str]:
    marks = {"image_start": "<image>", "image_end": "</image>", "slice_start": "<slice>", "slice_end": "</slice>"}
    numbers = {f"{name}_id": ids[token] for name, token in marks.items()} | {"newline_id": ids["Ċ"]}
    return _minicpm(MiniCPMV4_7Config, ids, **numbers), SLICES, "<|image_pad|>"


def _qwen2_vl(ids: dict[str, int]) -> tuple[PreTrainedConfig, dict[str, Any], str]:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config={"vocab_size": len(ids), "rope_parameters": rope, **TEXT},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    pixels = {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 56 * 56, "max_pixels": 112 * 112}
    return config, pixels, "<|vision_start|><|image_pad|><|vision_end|>"


def _llava(ids: dict[str, int]) -> tuple[PreTrainedConfig, dict[str, Any], str]:
    config = LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": len(ids), **TEXT},
        vision_config={"model_type": "clip_vision_model", "image_size": 56, "projection_dim": 32, **TOWER},
        image_token_index=ids["<|image_pad|>"],
        vision_feature_layer=-1,
    )
    side = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 56}, "crop_size": 56}
    patches = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return config, side | patches, "<|image_pad|>"


MODELS: dict[str, Callable[[dict[str, int]], tuple[PreTrainedConfig, dict[str, Any], str]]] = {
    "minicpm-v-4.6": _minicpm_v_4_6,
    "minicpm-v-4.7": _minicpm_v_4_7,
    "qwen2-vl": _qwen2_vl,
    "llava": _llava,
}


def save_library_model(folder: Path, name: str) -> Path:
    """A folder as a hub repository has it, the same random weights every time."""
    tokens = tokenizer()
    config, pictures, placeholder = MODELS[name](tokens.get_vocab())
    tokens.chat_template = TEMPLATE.replace("PICTURE", repr(placeholder))
    tokens.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=[tokens.pad_token_id])
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures), encoding="utf-8")
    if name == "llava":  # its processor has settings of its own
        (folder / "processor_config.json").write_text(json.dumps({"processor_class": "LlavaProcessor"} | pictures))
    return folder
