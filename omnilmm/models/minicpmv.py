"""MiniCPM-V: vision tower, resampler and language model under the tensor names of the published checkpoints.

`B` prompts · `S` prompt length · `N` slices of all prompts · `L` patches of the longest slice · `Q` queries · `D` width

    pixel_values, target_sizes --vpm--> [N, L, D_v] --resampler--> features [N, Q, D]
    input_ids [B, S] --embed_tokens--> [B, S, D], rows marked in image_slots <- features --llm--> logits

The language model is transformers' own (Llama for 2.5, Qwen2 for 2.6); `generate` hands it the merged embeddings, so
the repetition penalty sees generated tokens only, as in the published code.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from omnilmm.errors import CheckpointError
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.resampler import Resampler
from omnilmm.models.vision import VisionTower


class MiniCPMV(PreTrainedModel, GenerationMixin):
    """A MiniCPM-V 2.5 or 2.6 model; the hub calls the class by this name."""

    config_class = MiniCPMVConfig
    config: MiniCPMVConfig
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["Idefics2EncoderLayer", "LlamaDecoderLayer", "Qwen2DecoderLayer", "Resampler"]
    _skip_keys_device_placement = ["past_key_values"]

    def __init__(self, config: MiniCPMVConfig) -> None:
        super().__init__(config)
        text, vision = config.text_config, config.vision_config
        # Only whole models are dispatched by the library; the tower's blocks ask their own config.
        vision._attn_implementation = self.config._attn_implementation
        self.vpm = VisionTower(vision, strip_positions=config.version == "2.5")
        self.resampler = Resampler(config.query_num, text.hidden_size, vision.hidden_size)
        self.llm = AutoModelForCausalLM.from_config(text, trust_remote_code=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Resampler):
            init.normal_(module.query, std=self.config.initializer_range)
            init.normal_(module.proj, std=module.proj.shape[0] ** -0.5)
            init.xavier_uniform_(module.attn.in_proj_weight)
            init.zeros_(module.attn.in_proj_bias)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As in transformers, but strict: a tensor that is missing, left over or of another shape is an error.

        Raises:
            CheckpointError: The names of the tensors that do not fit.
        """
        # Shapes that do not fit are collected too, instead of ending the loading at once with a bare hint.
        kwargs["ignore_mismatched_sizes"] = True
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        problems = {
            "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]),
            "of another shape": sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]),
        }
        found = [f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names]
        if found:
            raise CheckpointError(f"The weights do not fit the config.json beside them. Tensors {'; '.join(found)}.")
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        """The language model's table of token embeddings."""
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's table of token embeddings."""
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.llm.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's head."""
        self.llm.set_output_embeddings(new_embeddings)

    def get_image_features(self, pixel_values: Tensor, target_sizes: Tensor) -> Tensor:
        """Look at slices.

        Args:
            pixel_values: [N, 3, P, P·L] strips of patches, zero-padded (see `vision.py`).
            target_sizes: [N, 2] (rows, columns) of each slice in patches.

        Returns:
            [N, Q, D] features in the order of the slices.
        """
        size = self.config.vision_batch_size if self.config.version == "2.6" else len(pixel_values)
        chunks = zip(pixel_values.split(size), target_sizes.split(size), strict=True)
        return torch.cat([self.resampler(self.vpm(strips, sizes), sizes) for strips, sizes in chunks])

    def merge(self, input_ids: Tensor, image_slots: Tensor, features: Tensor | None) -> Tensor:
        """Token embeddings with picture features in their slots.

        Args:
            input_ids: [B, S].
            image_slots: [B, S], true where a feature belongs.
            features: [N, Q, D] or None for text alone.

        Returns:
            [B, S, D].
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        slots, given = int(image_slots.sum()), 0 if features is None else math.prod(features.shape[:2])
        if slots != given:
            raise ValueError(f"The prompt has {slots} picture slots, but {given} features came.")
        if features is None:
            return embeds
        return embeds.masked_scatter(image_slots[..., None].to(embeds.device), features.to(embeds))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        target_sizes: Tensor | None = None,
        image_slots: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (and loss, given `labels`) of merged prompts; further arguments go to the language model."""
        if inputs_embeds is None:
            inputs_embeds = self._embed(input_ids, pixel_values, target_sizes, image_slots)
        output: CausalLMOutputWithPast = self.llm(inputs_embeds=inputs_embeds, **kwargs)
        return output

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        target_sizes: Tensor | None = None,
        image_slots: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generated ids only, without the prompt; further arguments as in transformers' `generate`."""
        if inputs_embeds is None:
            inputs_embeds = self._embed(input_ids, pixel_values, target_sizes, image_slots)
        if kwargs.get("attention_mask") is None:
            kwargs["attention_mask"] = inputs_embeds.new_ones(inputs_embeds.shape[:2], dtype=torch.long)
        kwargs.setdefault("generation_config", self.generation_config)
        return self.llm.generate(inputs_embeds=inputs_embeds, **kwargs)

    def _embed(
        self,
        input_ids: Tensor | None,
        pixel_values: Tensor | None,
        target_sizes: Tensor | None,
        image_slots: Tensor | None,
    ) -> Tensor:
        if input_ids is None:
            raise ValueError("Either input_ids or inputs_embeds is needed.")
        features = None
        if pixel_values is not None and target_sizes is not None:
            features = self.get_image_features(pixel_values, target_sizes)
        if image_slots is None:
            image_slots = torch.zeros_like(input_ids, dtype=torch.bool)
        return self.merge(input_ids, image_slots, features)
