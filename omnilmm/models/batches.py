"""Collate conversations to batches, as the model classes of this package take them.

`B` conversations · `S` tokens of the longest one · `N` slices of all pictures · `L` patches of the longest slice
`P` patch side · `Q` queries · `D` language width

Prompts are padded on the right; padding has no label and is masked, so the loss of a batch is the mean over the tokens
to learn, whoever is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from omnilmm.prompts.pieces import IGNORED, Prompt

Batch = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One conversation to learn from.

    Attributes:
        prompt: its tokens and labels.
        pixel_values: [n, 3, P, P·l] slices of its pictures; None without pictures, or if `features` is given.
        target_sizes: [n, 2] rows and columns of each slice in patches; None likewise.
        features: [n, Q, D] features of the slices, encoded earlier.
    """

    prompt: Prompt
    pixel_values: Tensor | None = None
    target_sizes: Tensor | None = None
    features: Tensor | None = None


def token_batch(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Return `input_ids`, `image_slots`, `attention_mask` and `labels` of some prompts, each [B, S]."""
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    slots = torch.zeros_like(ids, dtype=torch.bool)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        end = len(prompt)
        ids[row, :end] = torch.tensor(prompt.input_ids)
        slots[row, :end] = torch.tensor(prompt.image_slots)
        labels[row, :end] = torch.tensor(prompt.labels)
        mask[row, :end] = 1
    return {"input_ids": ids, "image_slots": slots, "attention_mask": mask, "labels": labels}


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples to the arguments of the model's `forward`, with `labels`.

    Returns:
        `token_batch`, and for pictures either `image_features` [N, Q, D], or `pixel_values` [N, 3, P, P·L],
        `target_sizes` [N, 2] and `slices_per_prompt`.
    """
    batch: Batch = {**token_batch([sample.prompt for sample in samples])}
    features = [sample.features for sample in samples if sample.features is not None]
    seen = [(s.pixel_values, s.target_sizes) for s in samples if s.pixel_values is not None]
    if features:
        batch["image_features"] = torch.cat(features)
    elif seen:
        longest = max(strips.shape[-1] for strips, _ in seen)
        batch["pixel_values"] = torch.cat([F.pad(strips, (0, longest - strips.shape[-1])) for strips, _ in seen])
        batch["target_sizes"] = torch.cat([sizes for _, sizes in seen if sizes is not None])
        batch["slices_per_prompt"] = [len(s.pixel_values) if s.pixel_values is not None else 0 for s in samples]
    return batch
