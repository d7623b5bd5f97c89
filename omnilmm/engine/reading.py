"""Reading a conversation: what `generate` is called with, and where the new ids begin in what it gives.

Two kinds of models, one protocol: ours take merged embeddings (`NativeReader`), those that transformers has itself take
what their own processor makes (`library.LibraryReader`). The engine knows neither.

`S` prompt length · `Q` features per view · `D` width
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts.pieces import Prompt


@dataclass(frozen=True)
class Reading:
    """One conversation, read.

    Attributes:
        arguments: of the model's `generate`, on its device.
        begins: how many ids `generate` gives before the first new one.
        text_tokens, picture_tokens: of the prompt.
    """

    arguments: dict[str, Any]
    begins: int
    text_tokens: int
    picture_tokens: int


class Reader(Protocol):
    """A model with its processor, as the engine sees them."""

    @property
    def model(self) -> Any:
        """With a `generate` as transformers has it."""

    @property
    def tokenizer(self) -> Any:
        """Decodes answers."""

    @property
    def stop_ids(self) -> Sequence[int]:
        """Any of them ends an answer."""

    @property
    def silent_ids(self) -> Set[int]:
        """Tokens that may be generated, but are no text."""

    def length(self, conversation: Conversation) -> int:
        """Tokens of its prompt; the model is not touched."""

    def read(self, conversation: Conversation) -> Reading:
        """Look at the pictures and make the prompt; called where the model may be used."""


def reader_for(model: Any, processor: Any) -> Reader:
    """The reader of a loaded model.

    Raises:
        CheckpointError: The checkpoint cannot hold a conversation; says why.
    """
    if isinstance(model, PictureModel):
        return NativeReader(model, processor)
    from omnilmm.engine.library import LibraryReader

    return LibraryReader(model, processor)


class NativeReader:
    """Our own models: features and text are merged here, and `generate` gives new ids only.

    Nothing generated is hidden: these models say no control token but the one that ends their answer.
    """

    silent_ids: Set[int] = frozenset()

    def __init__(self, model: PictureModel, processor: MiniCPMVProcessor) -> None:
        self.model, self.processor = model, processor
        self.tokenizer, self.stop_ids = processor.tokenizer, processor.stop_ids

    def length(self, conversation: Conversation) -> int:
        """Tokens of its prompt."""
        return len(self.processor.prompt(conversation))

    def read(self, conversation: Conversation) -> Reading:
        """Merged embeddings of the whole conversation."""
        prompt = self.processor.prompt(conversation)
        embeds = self.merge(prompt, self.features(conversation.pictures))
        picture_tokens = sum(prompt.image_slots)
        return Reading({"inputs_embeds": embeds}, 0, len(prompt) - picture_tokens, picture_tokens)

    def features(self, pictures: Sequence[Picture]) -> Tensor | None:
        """Features [N, Q, D] of all views of the pictures, in the order of the prompt's slots."""
        if not pictures:
            return None
        pixels, sizes = self.processor.views(pictures)
        device = self.model.device
        return self.model.get_image_features(pixels.to(device, self.model.dtype), sizes.to(device))

    def merge(self, prompt: Prompt, features: Tensor | None) -> Tensor:
        """Embeddings [1, S, D]."""
        ids = torch.tensor([prompt.input_ids], device=self.model.device)
        return self.model.merge(ids, torch.tensor([prompt.image_slots], device=ids.device), features)
