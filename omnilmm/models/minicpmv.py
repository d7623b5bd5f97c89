"""MiniCPM-V 1.0 to 4.5: vision tower `vpm`, `resampler` and language model `llm`, named as in the published tensors.

The language models are transformers' own: MiniCPM-2.4B (1.0, 2.0) is Granite with other multipliers, 2.5 and 4.0
have Llama, 2.6 and the built-in model Qwen2, 4.5 Qwen3.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from omnilmm.models.checkpoint import Shapes, tensor_shapes
from omnilmm.models.config import MiniCPMOConfig, MiniCPMVConfig
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.resampler import Resampler
from omnilmm.models.vision import VisionTower
from omnilmm.models.vit import ViT, ViTConfig
from omnilmm.versions import SOUND, VERSIONS

# Arguments of `from_pretrained` that locate a checkpoint.
WHERE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class ScaledEmbedding(nn.Embedding):
    """MiniCPM's token embedding with scaling; done here because picture features are not scaled."""

    def __init__(self, table: nn.Embedding, scale: float) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, table.padding_idx)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Embedding's name
        """[…] -> […, D]."""
        return super().forward(input) * self.scale


class MiniCPMV(PictureModel):
    """A MiniCPM-V model; the class name matches the one on the hub."""

    config_class = MiniCPMVConfig
    config: MiniCPMVConfig
    _no_split_modules = [
        "Idefics2EncoderLayer",
        "ViTBlock",
        "Resampler",
        *sorted({row.text.replace("Config", "DecoderLayer") for row in VERSIONS.values()}),
    ]

    def __init__(self, config: MiniCPMVConfig) -> None:
        super().__init__(config)
        text, vision = config.text_config, config.vision_config
        # transformers sets the attention implementation of whole models only; the tower's blocks read their own config.
        vision._attn_implementation = self.config._attn_implementation
        if isinstance(vision, ViTConfig):
            self.vpm: Any = ViT(vision)
        else:
            self.vpm = VisionTower(vision, strip_positions=config.row.pads_to_longest)
        self.resampler = Resampler(config.query_num, text.hidden_size, vision.hidden_size, config.row.positions)
        self.llm = AutoModelForCausalLM.from_config(text, trust_remote_code=False)
        if config.scale_emb is not None:
            table = self.llm.get_input_embeddings()
            self.llm.set_input_embeddings(ScaledEmbedding(table, config.scale_emb))
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | PathLike[str], *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """As `PictureModel.from_pretrained`; sizes of timm's tower, missing in config.json, come from the tensors."""
        where = {key: kwargs[key] for key in WHERE if key in kwargs}
        config = copy.deepcopy(kwargs.get("config")) or cls.config_class.from_pretrained(folder_or_id, **where)
        if isinstance(config.vision_config, ViTConfig):
            measured = vit_sizes(_shapes(folder_or_id, kwargs.get("state_dict")))
            config.vision_config = ViTConfig(**(config.vision_config.to_dict() | measured))
        kwargs["config"] = config
        return super().from_pretrained(folder_or_id, *args, output_loading_info=output_loading_info, **kwargs)

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        return cast(nn.Module, self.vpm)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding of the language model."""
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of the language model."""
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the LM head."""
        return self.llm.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the LM head."""
        self.llm.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        """Return the language model without its head."""
        return cast(nn.Module, self.llm.get_decoder())

    def encode_patches(self, pixel_values: Tensor, target_sizes: Tensor) -> Tensor:
        """As `PictureModel.encode_patches`; from 2.6 on with at most `vision_batch_size` slices at once."""
        if not self.config.row.in_batches:
            return super().encode_patches(pixel_values, target_sizes)
        size = self.config.vision_batch_size
        chunks = zip(pixel_values.split(size), target_sizes.split(size), strict=True)
        return torch.cat([super(MiniCPMV, self).encode_patches(strips, sizes) for strips, sizes in chunks])

    def _forward_text(self, inputs_embeds: Tensor, **kwargs: Any) -> CausalLMOutputWithPast:
        output: CausalLMOutputWithPast = self.llm(inputs_embeds=inputs_embeds, **kwargs)
        return output

    def _generate(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        return self.llm.generate(inputs_embeds=inputs_embeds, **kwargs)


class MiniCPMO(MiniCPMV):
    """The vision and language parts of a MiniCPM-o; its audio and speech tensors are ignored by name."""

    config_class = MiniCPMOConfig
    config: MiniCPMOConfig
    _keys_to_ignore_on_load_unexpected = [f"^{re.escape(prefix)}" for prefix in SOUND]


def _shapes(folder_or_id: str | PathLike[str] | None, given: Mapping[str, Tensor] | None) -> Shapes:
    """Return the shapes of the given tensors or of those in a folder; empty if they are not downloaded yet."""
    if given is not None:
        return {name: tuple(tensor.shape) for name, tensor in given.items()}
    is_folder = folder_or_id is not None and Path(folder_or_id).is_dir()
    return tensor_shapes(Path(folder_or_id)) if folder_or_id is not None and is_folder else {}


def vit_sizes(shapes: Shapes) -> dict[str, int]:
    """Infer the sizes of timm's tower from its tensors, except for the number of heads."""
    if not {"vpm.pos_embed", "vpm.blocks.0.mlp.fc1.weight", "vpm.patch_embed.proj.weight"} <= set(shapes):
        return {}  # tensors of another model; loading reports them
    patch = shapes["vpm.patch_embed.proj.weight"][-1]
    _, positions, width = shapes["vpm.pos_embed"]
    return {
        "hidden_size": width,
        "intermediate_size": shapes["vpm.blocks.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("vpm.blocks.")),
        "patch_size": patch,
        "image_size": round(positions**0.5) * patch,
    }
