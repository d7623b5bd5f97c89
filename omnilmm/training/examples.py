"""Training examples: checked rows with their encoded prompts, and the dataset that the Trainer reads.

Everything that can be wrong with a row is found before training: its pictures are decoded and its prompt is encoded
once. In training, frozen features are encoded once per set of pictures and kept, bounded in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation
from omnilmm.engine.caches.lru import LRUCache
from omnilmm.errors import CheckpointError, InputError, OmniLMMError
from omnilmm.models.batches import Sample
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts.pieces import IGNORED, Prompt
from omnilmm.sentences import Sentence
from omnilmm.training.data import Row, conversation_of, picture_paths, read_rows


@dataclass(frozen=True)
class Example:
    """A row that was checked, with its prompt; its pictures are decoded again when they are needed.

    Attributes:
        line: line of the file where the row begins.
        row: the row.
        folder: folder to which its paths are relative.
        prompt: its tokens and labels.
    """

    line: int
    row: Row
    folder: Path
    prompt: Prompt

    def conversation(self) -> Conversation:
        """Return the conversation with its pictures."""
        return conversation_of(self.row, self.folder)

    @property
    def learnt(self) -> int:
        """Number of tokens to learn."""
        return sum(label != IGNORED for label in self.prompt.labels)


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used, and why."""

    line: int
    reason: Sentence


def read_examples(
    path: Path, processor: Any, card: ModelCard, *, max_length: int | None = None, max_slices: int | None = None
) -> tuple[list[Example], list[Problem]]:
    """Read and check a data file.

    Args:
        path: the file; see `data`.
        processor: processor of the model to be trained.
        card: card of that model.
        max_length: maximum number of tokens of a row; the context length of the model at most.
        max_slices: slices per picture; the default of the checkpoint if None.

    Raises:
        InputError: The file as a whole cannot be read.
        CheckpointError: The model is not one of this package, whose prompts have no labels.
    """
    if not isinstance(processor, MiniCPMVProcessor):
        raise CheckpointError("not_trained_here", title=card.title)
    limit = min(max_length or card.context, card.context)
    examples: list[Example] = []
    problems: list[Problem] = []
    for found in read_rows(path):
        if found.row is None:
            problems.append(Problem(found.line, found.problem or Sentence("row_form", reasons=[])))
            continue
        try:
            conversation = conversation_of(found.row, path.parent)
            _check_abilities(conversation, card)
            prompt = processor.prompt(conversation, max_slices=max_slices)
            if len(prompt) > limit:
                raise InputError("row_too_long", tokens=len(prompt), limit=limit)
        except OmniLMMError as error:
            problems.append(Problem(found.line, error.sentence))
        else:
            examples.append(Example(found.line, found.row, path.parent, prompt))
    return examples, problems


def usable_examples(
    path: Path, processor: Any, card: ModelCard, *, max_length: int | None = None, max_slices: int | None = None
) -> list[Example]:
    """Return the examples of a file, all of whose rows have to be usable; arguments as for `read_examples`.

    Raises:
        InputError: A row cannot be used.
    """
    examples, problems = read_examples(path, processor, card, max_length=max_length, max_slices=max_slices)
    if problems:
        first = Sentence("of_file", name=f"{path}:{problems[0].line}", reason=problems[0].reason)
        total = len(examples) + len(problems)
        raise InputError("data_has_problems", path=path, count=len(problems), total=total, first=first)
    return examples


def _check_abilities(conversation: Conversation, card: ModelCard) -> None:
    if conversation.system and not card.system_prompt:
        raise InputError("no_system_prompt", title=card.title)
    if len(conversation.pictures) > 1 and not card.several_pictures:
        raise InputError("one_picture_only", title=card.title)


class Examples(Dataset[Sample]):
    """Examples as samples of a model.

    Args:
        examples: what to learn from.
        model: the model in training, on its device.
        processor: its processor.
        keeps_features: whether tower and resampler are frozen, so that the features of a picture stay the same.
        cache: keeps features; several sets of examples may share it.
        max_slices: slices per picture, as for `read_examples`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        model: PictureModel,
        processor: MiniCPMVProcessor,
        *,
        keeps_features: bool,
        cache: LRUCache[Any, Tensor],
        max_slices: int | None = None,
    ) -> None:
        self.examples, self.model, self.processor = examples, model, processor
        self.keeps_features, self.max_slices = keeps_features, max_slices
        self.cache = cache

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int) -> Sample:
        """Return one example, with features or pixels."""
        example = self.examples[index]
        if not any(example.prompt.image_slots):
            return Sample(example.prompt)
        if not self.keeps_features:
            return Sample(example.prompt, *self._pixels(example))
        return Sample(example.prompt, features=self._features(example))

    def _pixels(self, example: Example) -> tuple[Tensor, Tensor]:
        return self.processor.pixel_values(example.conversation().pictures, self.max_slices)

    def _features(self, example: Example) -> Tensor:
        """Return the features [n, Q, D]; rows about the same pictures share them."""
        key = (example.folder, picture_paths(example.row))
        features = self.cache.get(key)
        if features is None:
            strips, sizes = self._pixels(example)
            device = self.model.device
            with torch.no_grad():
                features = self.model.get_image_features(strips.to(device, self.model.dtype), sizes.to(device)).cpu()
            self.cache.put(key, features, features.nbytes)
        return features
