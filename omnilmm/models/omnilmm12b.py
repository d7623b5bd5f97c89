"""OmniLMM-12B and RLAIF-V-12B: EVA02-E vision tower and resampler inside a Mistral, with the published tensor names.

Source: the published code and its outputs at tiny size. A picture is one slice of `image_size` squared.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import MistralForCausalLM, MistralModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from omnilmm.models.config import OmniLMMConfig
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.resampler import Resampler
from omnilmm.models.vit import ViT


class OmniLMMModel(MistralModel):
    """Mistral's decoder, with the vision tower and the resampler beside its layers."""

    config: OmniLMMConfig

    def __init__(self, config: OmniLMMConfig) -> None:
        super().__init__(config)
        vision = config.vision_config
        self.vision_tower = ViT(vision)
        self.resampler = Resampler(config.num_query, config.hidden_size, vision.hidden_size, "stretched")
        self.post_init()


class OmniLMMForCausalLM(PictureModel, MistralForCausalLM):
    """An OmniLMM model; the class name matches the one on the hub."""

    config_class = OmniLMMConfig
    config: OmniLMMConfig
    _no_split_modules = ["ViTBlock", "MistralDecoderLayer", "Resampler"]
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq"]

    def __init__(self, config: OmniLMMConfig) -> None:
        super(MistralForCausalLM, self).__init__(config)
        self.model = OmniLMMModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        return self.model.vision_tower

    @property
    def resampler(self) -> Resampler:  # type: ignore[override]
        """The resampler."""
        return self.model.resampler

    def _forward_text(self, inputs_embeds: Tensor, **kwargs: Any) -> CausalLMOutputWithPast:
        output: CausalLMOutputWithPast = MistralForCausalLM.forward(self, inputs_embeds=inputs_embeds, **kwargs)
        return output

    @torch.no_grad()
    def _generate(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        return MistralForCausalLM.generate(self, inputs_embeds=inputs_embeds, **kwargs)
