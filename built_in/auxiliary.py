"""Auxiliary losses for training a small model: contents of every patch and of every resampler query.

With the answer loss alone, training stays for long on a plateau where the model guesses from the question. Since the
pictures are generated, the content of every patch is known, so the vision tower and the resampler are supervised
directly. On a second plateau, the language model has to learn which direction of a feature means "red" or "star";
features are therefore also pulled towards the embeddings of the matching words, so that retrieving something from a
picture works like retrieving it from text. The heads exist during training only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from built_in.cells import CELL_LABELS, CELL_PRINT, WORDS
from built_in.data import PATCH_PRINT
from built_in.labels import ALL_PLACES, EDGE_CLASSES, EDGES, IGNORED
from built_in.outlines import KINDS
from built_in.palette import COLOURS
from built_in.printing import CHARACTERS, LAST_COLUMN, LAST_ROW
from built_in.scenes import SIZES

_PRINTED = len(CHARACTERS) + 1
CLASSES = {
    "kind": len(KINDS) + 1,
    "colour": len(COLOURS) + 1,
    "left": _PRINTED,
    "right": _PRINTED,
    "size": len(SIZES) + 1,
    "place": len(ALL_PLACES) + 1,
    "row": LAST_ROW + 1,
    "column": LAST_COLUMN + 1,
    **dict.fromkeys(EDGES, EDGE_CLASSES + 1),
    **dict.fromkeys(PATCH_PRINT, _PRINTED),
}
# Properties of a patch with several labels get about the same total weight as those with one label.
_WEIGHTS = dict.fromkeys(EDGES, 1 / 4) | dict.fromkeys(PATCH_PRINT, 1 / len(PATCH_PRINT))


class AuxiliaryHeads(nn.Module):
    """Linear heads on the vision tower's patches and on the resampler's outputs.

    Args:
        vision_width: width of the tower's patch outputs.
        width: width of the resampler's outputs.
        word_ids: token id of each of `cells.WORDS`.
    """

    word_ids: Tensor

    def __init__(self, vision_width: int, width: int, word_ids: list[int]) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({name: nn.Linear(vision_width, count) for name, count in CLASSES.items()})
        self.position = nn.Linear(vision_width, 2)
        self.cells = nn.Linear(width, CELL_LABELS)
        self.print = nn.Linear(width, CELL_PRINT * (len(CHARACTERS) + 1))
        self.boxes = nn.Linear(width, len(EDGES) * EDGE_CLASSES)
        self.rows, self.columns = nn.Linear(width, LAST_ROW + 1), nn.Linear(width, LAST_COLUMN + 1)
        self.likeness = nn.Parameter(torch.tensor([15.0, -5.0]))  # scale and offset of the cosine similarity to a word
        self.register_buffer("word_ids", torch.tensor(word_ids), persistent=False)

    def forward(
        self, patches: Tensor, features: Tensor, embeddings: Tensor, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses by name.

        Args:
            patches: [N, L, D_v] tower outputs.
            features: [N, Q, D] resampler outputs, Q = number of cells.
            embeddings: [V, D] token embeddings of the language model.
            batch: see `data.collate`.
        """
        losses = {
            f"patch_{name}": _WEIGHTS.get(name, 1.0)
            * _balanced(head(patches).flatten(0, 1), batch[f"patch_{name}"].flatten())
            for name, head in self.classes.items()
        }
        real = ~batch["patch_position"].isnan()
        losses["patch_position"] = F.mse_loss(self.position(patches)[real], batch["patch_position"][real])
        losses["cells"] = (
            F.binary_cross_entropy_with_logits(self.cells(features), batch["cell_labels"]) * CELL_LABELS / 10
        )
        likeness = F.normalize(features, dim=-1) @ F.normalize(embeddings[self.word_ids], dim=-1).t()
        logits = likeness * self.likeness[0] + self.likeness[1]
        losses["words"] = F.binary_cross_entropy_with_logits(logits, batch["cell_words"]) * len(WORDS) / 10
        printed = self.print(features).unflatten(-1, (CELL_PRINT, -1))
        losses["print"] = _balanced(printed.flatten(0, 2), batch["cell_print"].flatten()) / 2
        rows, columns = batch["cell_grid"].flatten(0, 1).t()
        losses["rows"] = _balanced(self.rows(features).flatten(0, 1), rows) / 2
        losses["columns"] = _balanced(self.columns(features).flatten(0, 1), columns) / 2
        boxes, edges = self.boxes(features).unflatten(-1, (len(EDGES), EDGE_CLASSES)), batch["cell_boxes"].flatten()
        losses["boxes"] = _mean(_each(boxes.flatten(0, 2), edges), edges != IGNORED) / 4
        return losses


def _balanced(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with equal total weight for the few non-empty and the many empty patches."""
    each = _each(logits, labels)
    return (_mean(each, labels > 0) + _mean(each, labels == 0)) / 2


def _each(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")


def _mean(losses: Tensor, which: Tensor) -> Tensor:
    """Return the mean of the selected losses; zero if none is selected."""
    return losses[which].sum() / which.sum().clamp(min=1)
