"""Dataset of training samples, and their collation to batches.

`B` conversations · `N` views (overviews and slices) of all their pictures · `L` patches of the longest view · `S`
tokens of the longest conversation

Sample `i` of a seed is always the same lesson, so a run can be resumed at any step with exactly the same data. Prompts
and slices come from the same renderer and slicing rules as in inference.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from built_in.cells import CELL_PRINT, about_cells, cells_of_patches, nothing_in_cells
from built_in.labels import IGNORED, PATCH_LABELS, patch_labels, scene_in_view
from built_in.lessons import Drawn, Lesson, random_lesson, random_sort
from built_in.printing import Box
from built_in.scenes import Scene
from omnilmm.conversation import Conversation, Part, Picture
from omnilmm.images.pixels import Floats, cut, patch_strip, stack_strips
from omnilmm.images.slicing import SlicePlan, SlicingRules, plan_slices
from omnilmm.models.batches import token_batch
from omnilmm.prompts import chatml
from omnilmm.prompts.pieces import PieceEncoder, Prompt

# Patches are also labelled with the text printed in their cell, so that the resampler only has to collect it.
PATCH_PRINT = tuple(f"print_{number}" for number in range(CELL_PRINT))
BOX_WEIGHT = 0.5


@dataclass(frozen=True)
class LabelledView:
    """One view of a picture with the labels for the auxiliary losses.

    `grid` is its rows and columns of patches. Shapes: strip [3, P, P·n] for rows · columns = n patches, each array of
    `patches` [n, …], each array of `cells` [Q, …].
    """

    strip: Floats
    grid: tuple[int, int]
    patches: dict[str, np.ndarray]
    cells: dict[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """One lesson as model inputs; `weights` are the loss weights of the tokens."""

    views: tuple[LabelledView, ...]
    prompt: Prompt
    weights: tuple[float, ...]


def conversation_of(lesson: Lesson) -> Conversation:
    """Convert a lesson to a conversation with the true answers."""
    conversation, pictures = Conversation(), (Picture(drawn.image) for drawn in lesson.pictures)
    for turn, given in zip(lesson.turns, lesson.given, strict=True):
        parts: list[Part] = [*(next(pictures) for _ in range(given)), turn.question]
        conversation = conversation.with_message("user", *parts).with_message("assistant", turn.answer)
    return conversation


class Lessons(Dataset[Sample]):
    """An endless dataset of lessons: `self[i]` depends only on the seed and `i`.

    Args:
        seed: seed of the whole stream.
        encoder: encoder of the checkpoint in training.
        rules: its slicing rules.
        count: reported length, for samplers.
        group: number of consecutive lessons of the same sort, which have about the same length.
    """

    def __init__(
        self, seed: int, encoder: PieceEncoder, rules: SlicingRules, count: int = 1 << 40, group: int = 16
    ) -> None:
        self.seed, self.encoder, self.rules, self.count, self.group = seed, encoder, rules, count, group

    def __len__(self) -> int:
        """Return the length for samplers."""
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Return the lesson with this index; negative indices are never used for training."""
        sort = random_sort(random.Random(f"{self.seed}/group {index // self.group}"))
        lesson = random_lesson(random.Random(f"{self.seed}/{index}"), sort)
        plans = [plan_slices(drawn.image.size, self.rules) for drawn in lesson.pictures]
        views = [view for drawn, plan in zip(lesson.pictures, plans, strict=True) for view in self._views(drawn, plan)]
        prompt = self.encoder.encode(chatml.render(conversation_of(lesson), [plan.grid for plan in plans]))
        return Sample(tuple(views), prompt, self._weights(prompt))

    def _weights(self, prompt: Prompt) -> tuple[float, ...]:
        """Return the token weights, lower within boxes, whose many uncertain digits would dominate the loss."""
        weights, weight = [], 1.0
        begin, end = (self.encoder.control_id(token) for token in ("<box>", "</box>"))
        for token in prompt.input_ids:
            weight = 1.0 if token == end else weight
            weights.append(weight)
            weight = BOX_WEIGHT if token == begin else weight
        return tuple(weights)

    def _views(self, drawn: Drawn, plan: SlicePlan) -> Iterator[LabelledView]:
        for number, (view, region) in enumerate(zip(cut(drawn.image, plan), regions(drawn, plan), strict=True)):
            rows, columns = view.height // self.rules.patch_size, view.width // self.rules.patch_size
            strip = patch_strip(view, self.rules.patch_size)
            if drawn.scene is None:
                yield _nothing_in(strip, rows, columns)
            else:
                yield _labelled(strip, scene_in_view(drawn.scene, region), rows, columns, is_overview=number == 0)


def regions(drawn: Drawn, plan: SlicePlan) -> list[Box]:
    """Return the region of the picture that each view shows, in pixels."""
    width, height = drawn.image.size
    whole: list[Box] = [(0.0, 0.0, float(width), float(height))]
    if plan.refined is None:
        return whole
    across, down = width / plan.refined[0], height / plan.refined[1]
    return whole + [(box[0] * across, box[1] * down, box[2] * across, box[3] * down) for box in plan.boxes]


def _labelled(strip: Floats, scene: Scene, rows: int, columns: int, *, is_overview: bool) -> LabelledView:
    patches: dict[str, np.ndarray] = dict(patch_labels(scene, rows, columns, is_overview=is_overview))
    cells = about_cells(scene, rows, columns, is_overview=is_overview)
    printed = cells["print"][cells_of_patches(rows, columns)]
    patches |= {"position": _positions(rows, columns), **dict(zip(PATCH_PRINT, printed.T, strict=True))}
    return LabelledView(strip, (rows, columns), patches, cells)


def _nothing_in(strip: Floats, rows: int, columns: int) -> LabelledView:
    nothing = np.zeros(rows * columns, np.int64)
    patches: dict[str, np.ndarray] = dict.fromkeys((*PATCH_LABELS, *PATCH_PRINT), nothing)
    return LabelledView(strip, (rows, columns), patches | {"position": _positions(rows, columns)}, nothing_in_cells())


def _positions(rows: int, columns: int) -> Floats:
    """Return the (vertical, horizontal) position of each patch in its view, -1 to 1, [R*C, 2]."""
    numbers = np.indices((rows, columns)).reshape(2, -1).T
    return np.asarray(((numbers + 0.5) / (rows, columns) * 2 - 1).astype(np.float32))


def collate(samples: list[Sample]) -> dict[str, Tensor]:
    """Collate samples to a batch: model inputs, `labels`, `weights`, and `patch_*`, `cell_*` for auxiliary losses."""
    batch = token_batch([sample.prompt for sample in samples])
    batch["weights"] = torch.zeros(batch["labels"].shape)
    for row, sample in zip(batch["weights"], samples, strict=True):
        row[: len(sample.weights)] = torch.tensor(sample.weights)
    views = [view for sample in samples for view in sample.views]
    return batch | _collate_views(views) if views else batch


def _collate_views(views: list[LabelledView]) -> dict[str, Tensor]:
    strips = stack_strips([view.strip for view in views])
    length = strips.shape[-1] // strips.shape[-2]
    seen = {
        "pixel_values": torch.from_numpy(strips),
        "target_sizes": torch.tensor([view.grid for view in views]),
    }
    for name in views[0].cells:
        seen[f"cell_{name}"] = torch.from_numpy(np.stack([view.cells[name] for view in views]))
    for name in (*PATCH_LABELS, *PATCH_PRINT):
        padded = np.full((len(views), length), IGNORED)
        for row, view in zip(padded, views, strict=True):
            row[: len(view.patches[name])] = view.patches[name]
        seen[f"patch_{name}"] = torch.from_numpy(padded)
    positions = np.full((len(views), length, 2), np.nan, dtype=np.float32)
    for place, view in zip(positions, views, strict=True):
        place[: len(view.patches["position"])] = view.patches["position"]
    seen["patch_position"] = torch.from_numpy(positions)
    return seen
