"""Base class of the native models: strict loading, merging of picture features, and `generate` from embeddings.

`B` prompts · `S` prompt length · `N` slices of all prompts · `L` patches of the longest slice · `Q` queries · `D` width

    pixel_values, target_sizes --tower--> [N, L, D_v] --resampler--> features [N, Q, D]
    input_ids [B, S] --embed_tokens--> [B, S, D], rows marked in image_slots <- features --language model--> logits

`generate` passes only merged embeddings to the language model, so the repetition penalty applies to generated tokens
only and the output does not include the prompt, as in the published code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from omnilmm.models.checkpoint import PLACE, Shapes, mismatch_error, mismatches, source_of
from omnilmm.models.resampler import Resampler

# Arguments of `from_pretrained` that select other weights than the plain ones in the folder.
ELSEWHERE = ("subfolder", "variant", "gguf_file", "state_dict")


class PictureModel(PreTrainedModel, GenerationMixin):
    """A language model with a vision tower and a resampler; subclasses build the parts and run the language model."""

    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]

    resampler: Resampler

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        raise NotImplementedError

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Resampler):
            init.normal_(module.query, std=self.config.initializer_range)
            init.normal_(module.proj, std=module.proj.shape[0] ** -0.5)
            init.xavier_uniform_(module.attn.in_proj_weight)
            init.zeros_(module.attn.in_proj_bias)
            if module.positions != "computed":
                init.normal_(module.pos_embed, std=self.config.initializer_range)

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | PathLike[str], *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Load strictly: unlike in transformers, a missing, unexpected or mismatched tensor is an error.

        Raises:
            CheckpointError: Tensors do not fit; the message names them, and the model that they seem to belong to.
        """
        # Collect mismatched shapes too, instead of failing with transformers' own error.
        kwargs["ignore_mismatched_sizes"] = True
        model, info = super().from_pretrained(
            *args, output_loading_info=True, **cls._source(folder_or_id, kwargs), **kwargs
        )
        model.config.name_or_path = str(folder_or_id)
        found = mismatches(info)
        if any(found.values()):
            raise mismatch_error(found, _shapes_there(model, info))
        return (model, info) if output_loading_info else model

    @classmethod
    def _source(cls, folder_or_id: str | PathLike[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the source arguments of `from_pretrained`; with a state dict, the config is added to `kwargs`."""
        if folder_or_id is None or not Path(folder_or_id).is_dir() or any(kwargs.get(name) for name in ELSEWHERE):
            return {PLACE: folder_or_id}
        source = source_of(Path(folder_or_id))
        if "state_dict" in source and kwargs.get("config") is None:
            kwargs["config"] = cls.config_class.from_pretrained(folder_or_id)
        return source

    def get_image_features(
        self,
        pixel_values: Tensor,
        target_sizes: Tensor,
        temporal_ids: Sequence[Sequence[int]] | None = None,
        slices_per_prompt: Sequence[int] | None = None,
    ) -> Tensor:
        """Encode slices, or the frames of a video.

        Args:
            pixel_values: [N, 3, P, P·L] strips of patches, zero-padded (see `vision.py`).
            target_sizes: [N, 2] (rows, columns) of each slice in patches.
            temporal_ids: times of the frames, group by group; see `Resampler.forward`.
            slices_per_prompt: how many of the slices belong to each prompt of a batch; needed where the features of a
                slice depend on the longest one of its prompt (2.5), ignored elsewhere.

        Returns:
            [N, Q, D] features in the order of the slices, or [G, Q, D] of G groups of frames.
        """
        counts = [count for count in slices_per_prompt or () if count]
        if self.config.pads_to_longest and len(counts) > 1:
            apart = zip(pixel_values.split(counts), target_sizes.split(counts), strict=True)
            return torch.cat([self.get_image_features(_of_own_length(*prompt), prompt[1]) for prompt in apart])
        patches = self.encode_patches(pixel_values, target_sizes)
        return cast(Tensor, self.resampler(patches, target_sizes, temporal_ids))

    def encode_patches(self, pixel_values: Tensor, target_sizes: Tensor) -> Tensor:
        """Return the patch features of all slices, [N, L, D_v]."""
        return cast(Tensor, self.tower(pixel_values, target_sizes))

    def merge(self, input_ids: Tensor, image_slots: Tensor, features: Tensor | None) -> Tensor:
        """Return token embeddings with the picture features in the placeholder positions.

        Args:
            input_ids: [B, S].
            image_slots: [B, S], True at the placeholders of features.
            features: [N, Q, D], or None for a prompt without pictures.

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
        temporal_ids: Sequence[Sequence[int]] | None = None,
        slices_per_prompt: Sequence[int] | None = None,
        image_features: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute the logits (and the loss, given `labels`); further arguments go to the language model.

        `image_features`, from an earlier `get_image_features`, may be given instead of the pixels.
        """
        if inputs_embeds is None and pixel_values is not None and target_sizes is not None:
            image_features = self.get_image_features(pixel_values, target_sizes, temporal_ids, slices_per_prompt)
        if inputs_embeds is None:
            inputs_embeds = self._merged(input_ids, image_slots, image_features)
        return self._forward_text(inputs_embeds, **kwargs)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        target_sizes: Tensor | None = None,
        image_slots: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        temporal_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate and return the new ids only, without the prompt; further arguments as in transformers."""
        features = None
        if inputs_embeds is None and pixel_values is not None and target_sizes is not None:
            features = self.get_image_features(pixel_values, target_sizes, temporal_ids)
        if inputs_embeds is None:
            inputs_embeds = self._merged(input_ids, image_slots, features)
        kwargs.setdefault("generation_config", self.generation_config)
        return self._generate(inputs_embeds, **kwargs)

    def _forward_text(self, inputs_embeds: Tensor, **kwargs: Any) -> CausalLMOutputWithPast:
        """Run the language model on embeddings [B, S, D]."""
        raise NotImplementedError

    def _generate(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        """Run transformers' `generate` on embeddings [B, S, D]."""
        raise NotImplementedError

    def _merged(self, input_ids: Tensor | None, image_slots: Tensor | None, features: Tensor | None) -> Tensor:
        if input_ids is None:
            raise ValueError("Either input_ids or inputs_embeds is needed.")
        if image_slots is None:
            image_slots = torch.zeros_like(input_ids, dtype=torch.bool)
        return self.merge(input_ids, image_slots, features)


def _of_own_length(pixel_values: Tensor, target_sizes: Tensor) -> Tensor:
    """Cut off the padding that slices of other prompts made necessary."""
    return pixel_values[..., : pixel_values.shape[-2] * int(target_sizes.prod(dim=1).max())]


def _shapes_there(model: PreTrainedModel, info: Mapping[str, Any]) -> Shapes:
    """Return the shapes of all tensors of the checkpoint that was loaded; () where a shape is not known."""
    fitting = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in info["missing_keys"]:
        fitting.pop(name, None)
    others = {name: tuple(got) for name, got, _ in info["mismatched_keys"]}
    return fitting | dict.fromkeys(info["unexpected_keys"], ()) | others
