"""From an index to a training sample, and from samples to a batch.

`B` pictures · `L` patches of the largest · `S` tokens of the longest conversation

Sample `i` of a seed is always the same scene with the same questions, wherever and whenever it is made: training can
stop and go on at any step with exactly the data it would have seen. The prompt is the product's own renderer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from omnilmm.conversation import Conversation, Picture
from omnilmm.images.pixels import Floats, cut, patch_strip, stack_strips
from omnilmm.images.slicing import SlicingRules, plan_slices
from omnilmm.prompts import chatml
from omnilmm.prompts.pieces import PieceEncoder, Prompt
from omnilmm.training.drawing import draw
from omnilmm.training.labels import cell_labels, cell_words, patch_labels
from omnilmm.training.questions import conversation_about
from omnilmm.training.scenes import random_scene

IGNORED = -100  # label of what no loss counts


@dataclass(frozen=True)
class Sample:
    """One picture with its conversation and everything the auxiliary losses know about it."""

    strip: Floats
    target_size: tuple[int, int]
    prompt: Prompt
    patches: dict[str, np.ndarray]
    cells: Floats
    words: Floats


class Scenes(Dataset[Sample]):
    """Endless scenes: `self[i]` depends on the seed and `i` alone.

    Args:
        seed: of the whole stream.
        encoder: of the checkpoint in training.
        rules: its slicing rules; pictures are looked at whole.
        turns: questions per picture; several share one look at it.
    """

    def __init__(self, seed: int, encoder: PieceEncoder, rules: SlicingRules, turns: int) -> None:
        self.seed, self.encoder, self.rules, self.turns = seed, encoder, rules, turns

    def __getitem__(self, index: int) -> Sample:
        rng = random.Random(f"{self.seed}/{index}")
        scene = random_scene(rng)
        picture = draw(scene)
        conversation = Conversation()
        for number, turn in enumerate(conversation_about(scene, rng, turns=self.turns)):
            parts = (Picture(picture), turn.question) if number == 0 else (turn.question,)
            conversation = conversation.with_message("user", *parts).with_message("assistant", turn.answer)
        view = cut(picture, plan_slices(picture.size, self.rules))[0]
        rows, columns = view.height // self.rules.patch_size, view.width // self.rules.patch_size
        centres = np.indices((rows, columns)).reshape(2, -1).T
        patches = patch_labels(scene, rows, columns)
        patches["position"] = ((centres + 0.5) / (rows, columns) * 2 - 1).astype(np.float32)
        cells = cell_labels(scene, rows, columns)
        return Sample(
            strip=patch_strip(view, self.rules.patch_size),
            target_size=(rows, columns),
            prompt=self.encoder.encode(chatml.render(conversation, [None])),
            patches=patches,
            cells=cells,
            words=cell_words(scene, cells, rows, columns),
        )


def collate(samples: list[Sample]) -> dict[str, Tensor]:
    """A batch: model inputs, `labels`, and `patch_*` / `cells` for the auxiliary losses."""
    strips = stack_strips([sample.strip for sample in samples])
    length = strips.shape[-1] // strips.shape[-2]
    width = max(len(sample.prompt) for sample in samples)
    ids = torch.zeros(len(samples), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    slots = torch.zeros_like(ids, dtype=torch.bool)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        prompt, end = sample.prompt, len(sample.prompt)
        ids[row, :end] = torch.tensor(prompt.input_ids)
        slots[row, :end] = torch.tensor(prompt.image_slots)
        mask[row, :end] = 1
        labels[row, :end] = torch.where(torch.tensor(prompt.learn), ids[row, :end], IGNORED)
    batch = {
        "pixel_values": torch.from_numpy(strips),
        "target_sizes": torch.tensor([sample.target_size for sample in samples]),
        "input_ids": ids,
        "image_slots": slots,
        "attention_mask": mask,
        "labels": labels,
        "cells": torch.from_numpy(np.stack([sample.cells for sample in samples])),
        "words": torch.from_numpy(np.stack([sample.words for sample in samples])),
    }
    for name in ("kind", "colour", "character"):
        padded = np.full((len(samples), length), IGNORED)
        for row, sample in zip(padded, samples, strict=True):
            row[: len(sample.patches[name])] = sample.patches[name]
        batch[f"patch_{name}"] = torch.from_numpy(padded)
    positions = np.full((len(samples), length, 2), np.nan, dtype=np.float32)
    for place, sample in zip(positions, samples, strict=True):
        place[: len(sample.patches["position"])] = sample.patches["position"]
    batch["patch_position"] = torch.from_numpy(positions)
    return batch


def batches(scenes: Scenes, *, batch_size: int, first: int, last: int, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches number `first` to `last` (exclusive) of the stream, made by worker processes."""
    numbers = [list(range(step * batch_size, (step + 1) * batch_size)) for step in range(first, last)]
    return iter(
        DataLoader(scenes, batch_sampler=numbers, num_workers=workers, collate_fn=collate, persistent_workers=False)
    )
