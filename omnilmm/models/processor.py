"""Convert a conversation to model inputs: token ids with image placeholders, and the pixels for them.

`S` prompt length · `N` slices of all pictures and frames · `P` patch side · `L` patches of the longest slice

Everything is derived from `config.json` and the tokenizer: early 2.5 repositories have no processor file, and later
ones repeat the same numbers there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.utils import cached_file

from omnilmm.conversation import Conversation, Message, Picture, Video
from omnilmm.errors import InputError
from omnilmm.images.pixels import cut, open_picture, patch_strip, stack_strips
from omnilmm.images.slicing import Size, SlicePlan
from omnilmm.images.video_sampling import groups_of, time_ids
from omnilmm.models.config import MiniCPMOConfig, MiniCPMVConfig, OmniLMMConfig
from omnilmm.models.tokenizer import PIECES, begins, load_tokenizer
from omnilmm.prompts.messages import conversation_from_dicts
from omnilmm.prompts.pieces import Control, Piece, PieceEncoder, Prompt, as_text


def template_of(config: MiniCPMVConfig | OmniLMMConfig) -> ModuleType:
    """Return the module of `omnilmm.prompts` with the chat template of a checkpoint."""
    name = "zephyr" if isinstance(config, OmniLMMConfig) else config.row.template
    return import_module(f"omnilmm.prompts.{name}")


@dataclass(frozen=True)
class View:
    """A unit with placeholders of its own in the prompt: a picture, or a group of frames of a video.

    Attributes:
        pictures: one picture, or the frames of the group.
        plan: slicing plan of each of them.
        times: times of the frames in tenths of a second; None for a picture, or if the model takes no times.
        is_video: whether it is a group of frames.
    """

    pictures: tuple[Picture, ...]
    plan: SlicePlan
    times: tuple[int, ...] | None = None
    is_video: bool = False


class MiniCPMVProcessor(ProcessorMixin):
    """Prompts and pixels for a MiniCPM-V checkpoint; the class name matches the one on the hub.

    Args:
        tokenizer: the checkpoint's tokenizer.
        config: the checkpoint's configuration.
    """

    config_class: type[MiniCPMVConfig] | type[OmniLMMConfig] = MiniCPMVConfig

    def __init__(self, tokenizer: Any, config: MiniCPMVConfig | OmniLMMConfig) -> None:
        super().__init__(tokenizer)
        self.config = config
        self.template = template_of(config)
        self.video = None if isinstance(config, OmniLMMConfig) else config.row.video
        self.encoder = PieceEncoder(tokenizer, config.query_num, self.template.SLOT)
        begin = getattr(self.template, "MAY_BEGIN", None)
        self.begin = [Control(begin)] if begin is not None and begins(tokenizer) else []
        # Default of `thinking`; None for a template without a switch.
        self.thinking: bool | None = getattr(self.template, "THINKING", None)
        self.stop_ids = [self.encoder.control_id(token) for token in self.template.STOP_TOKENS]

    @classmethod
    def from_pretrained(cls, folder_or_id: str | Path, **kwargs: Any) -> MiniCPMVProcessor:
        """Read `config.json` and the tokenizer of a checkpoint; no code of the checkpoint is run."""
        kwargs.pop("trust_remote_code", None)
        kwargs.pop("_from_auto", None)
        config = cls.config_class.from_pretrained(folder_or_id, **kwargs)
        tokenizer = load_tokenizer(folder_or_id, config, **kwargs)
        return cls._assemble(tokenizer, config, folder_or_id, **kwargs)

    @classmethod
    def _assemble(cls, tokenizer: Any, config: Any, folder_or_id: str | Path, **kwargs: Any) -> MiniCPMVProcessor:
        return cls(tokenizer, config)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """Write the tokenizer's files; the configuration is written by the model."""
        return self.tokenizer.save_pretrained(save_directory, **kwargs)

    def plan(self, picture: Picture, max_slices: int | None = None) -> SlicePlan:
        """Return the slicing plan of a picture; `max_slices` defaults to the value in `config.json`."""
        return self.config.plan(picture.image.size, max_slices)

    def prompt(self, conversation: Conversation, *, with_labels: bool = True, **how: Any) -> Prompt:
        """Render and encode the prompt with image placeholders; pixels are not processed.

        Args:
            conversation: conversation to answer or to train on.
            with_labels: also compute the labels.
            **how: `thinking`, whether the model should think before it answers, if its template has a switch;
                `max_slices` per picture. Defaults come from the template and `config.json`.
        """
        return self.encoder.encode(self._pieces(conversation, **how), with_labels=with_labels)

    def views(self, conversation: Conversation, max_slices: int | None = None) -> list[View]:
        """Return the pictures and frame groups of a conversation, in the order of the prompt.

        Args:
            conversation: conversation with its pictures and videos.
            max_slices: maximum number of slices per picture; defaults to the checkpoint's.

        Raises:
            InputError: There is a video, but the model takes no videos.
        """
        shown = (part for message in conversation.messages for part in message.shown)
        return [view for part in shown for view in self._views_of(part, max_slices)]

    def frame_plan(self, size: Size) -> SlicePlan:
        """Return the plan for the frames of a video of (width, height), which are never sliced."""
        return self.config.plan(size, 1)

    def _views_of(self, part: Picture | Video, max_slices: int | None = None) -> list[View]:
        if isinstance(part, Picture):
            return [View((part,), self.plan(part, max_slices))]
        if self.video is None:
            raise InputError("model_sees_no_videos")
        plan, views = self.frame_plan(part.size), []
        ids = time_ids(part.times_s, part.duration_s)
        for group in groups_of(part, self.video):
            times = tuple(ids[place] for place in group) if self.video.has_times else None
            views.append(View(tuple(part.frames[place] for place in group), plan, times, True))
        return views

    def pixel_values(self, pictures: Iterable[Picture], max_slices: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the pixels of all slices of pictures, in the order of the placeholders in the prompt; see `pixels`."""
        return self.pixels((picture, self.plan(picture, max_slices)) for picture in pictures)

    def pixels(self, pictures: Iterable[tuple[Picture, SlicePlan]]) -> tuple[Tensor, Tensor]:
        """Return the pixels of all slices of pictures, given with their slicing plans.

        Returns:
            pixel_values [N, 3, P, P·L] in -1..1, zero-padded, and target_sizes [N, 2] (rows, columns) in patches.
        """
        side, normalisation = self.config.vision_config.patch_size, self.config.normalisation
        views = [view for picture, plan in pictures for view in cut(picture.image, plan)]
        strips = torch.from_numpy(stack_strips([patch_strip(view, side, normalisation) for view in views]))
        return strips, torch.tensor([(view.height // side, view.width // side) for view in views])

    def apply_chat_template(
        self,
        conversation: Conversation | list[dict[str, Any]],
        tokenize: bool = False,
        enable_thinking: bool | None = None,
        max_slice_nums: int | None = None,
        **_: Any,
    ) -> str | BatchFeature:
        """Render messages to a prompt string, or with `tokenize` to all model inputs of a batch of one.

        Args:
            conversation: a `Conversation`, or messages as dicts whose content is a string or a list of
                `{"type": "text", "text": …}` and `{"type": "image", "image": path, PIL image or bytes}`.
            tokenize: return all model inputs (see `inputs`) instead of the string.
            enable_thinking: `thinking` of `prompt`.
            max_slice_nums: `max_slices` of `prompt`.
        """
        if not isinstance(conversation, Conversation):
            conversation = conversation_from_dicts(conversation)
        if not tokenize:
            pieces = self._pieces(conversation, thinking=enable_thinking, max_slices=max_slice_nums)
            return as_text(pieces, self.config.query_num, self.template.SLOT)
        return self.inputs(conversation, thinking=enable_thinking, max_slices=max_slice_nums)

    def __call__(self, images: Any = None, text: str = "", **_: Any) -> BatchFeature:
        """Return the model inputs for one question about pictures: `processor(images=[…], text="…")`."""
        given = [] if images is None else images if isinstance(images, list | tuple) else [images]
        return self.inputs(Conversation().with_message("user", *(open_picture(image) for image in given), text))

    def inputs(
        self, conversation: Conversation, *, thinking: bool | None = None, max_slices: int | None = None
    ) -> BatchFeature:
        """Return all model inputs of a batch of one; arguments as for `prompt`.

        Returns:
            input_ids, attention_mask, image_slots, all [1, S]; with pictures also pixel_values and target_sizes; with
            a video, if the model takes times, also temporal_ids.
        """
        prompt = self.prompt(conversation, with_labels=False, thinking=thinking, max_slices=max_slices)
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([prompt.input_ids]),
            "attention_mask": torch.ones(1, len(prompt), dtype=torch.long),
            "image_slots": torch.tensor([prompt.image_slots]),
        }
        if views := self.views(conversation, max_slices):
            shown = ((picture, view.plan) for view in views for picture in view.pictures)
            inputs["pixel_values"], inputs["target_sizes"] = self.pixels(shown)
            if any(view.times for view in views):
                inputs["temporal_ids"] = [list(ids) for view in views for ids in _groups(view)]
        return BatchFeature(inputs)

    def _pieces(
        self, conversation: Conversation, *, thinking: bool | None = None, max_slices: int | None = None
    ) -> list[Piece]:
        views = self.views(conversation, max_slices)
        # With a video, the published examples do not number pictures.
        has_ids = self.config.use_image_id and not conversation.videos
        messages = tuple(map(self._with_first_frames, conversation.messages))
        how = {} if self.thinking is None or thinking is None else {"thinking": thinking}
        pieces: list[Piece] = self.template.render(
            replace(conversation, messages=messages), [view.plan.grid for view in views], image_ids=has_ids, **how
        )
        return [*self.begin, *pieces]

    def _with_first_frames(self, message: Message) -> Message:
        """Replace each video by the first frame of each group, since templates treat it as several pictures."""
        parts: list[str | Picture] = []
        for part in message.parts:
            parts += [view.pictures[0] for view in self._views_of(part)] if isinstance(part, Video) else [part]
        return replace(message, parts=tuple(parts))


def _groups(view: View) -> list[tuple[int, ...]]:
    """Return the temporal ids for the resampler; every slice of a picture is a still picture of its own."""
    return [view.times] if view.times is not None else [(-1,)] * len(view.plan.sizes)


class MiniCPMOProcessor(MiniCPMVProcessor):
    """Prompts and pixels for a MiniCPM-o; the class name matches the one on the hub."""

    config_class = MiniCPMOConfig


class OmniLMMProcessor(MiniCPMVProcessor):
    """Prompts and pixels for OmniLMM-12B and RLAIF-V-12B.

    Text is encoded by SentencePiece itself, segment by segment between the control tokens, each with its own leading
    space: transformers' conversion of this tokenizer treats spaces at the edges and double spaces differently (3 of the
    6 published prompts come out wrong).

    Args:
        tokenizer: the checkpoint's tokenizer, for control tokens and decoding.
        config: the checkpoint's configuration.
        pieces: the checkpoint's `tokenizer.model`.
    """

    config_class = OmniLMMConfig

    def __init__(self, tokenizer: Any, config: OmniLMMConfig, pieces: str | Path) -> None:
        super().__init__(tokenizer, config)
        self.pieces = Path(pieces)
        split = SentencePieceProcessor(model_file=str(pieces)).encode
        self.encoder = PieceEncoder(tokenizer, config.query_num, self.template.SLOT, split)

    @classmethod
    def _assemble(cls, tokenizer: Any, config: Any, folder_or_id: str | Path, **kwargs: Any) -> OmniLMMProcessor:
        return cls(tokenizer, config, cached_file(str(folder_or_id), PIECES, **kwargs))

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """Write the tokenizer's files, `tokenizer.model` among them."""
        written = super().save_pretrained(save_directory, **kwargs)
        shutil.copyfile(self.pieces, Path(save_directory) / PIECES)
        return written
