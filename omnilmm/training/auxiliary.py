"""Extra losses that help a small model to see: what every patch shows, and what every resampler query looks at.

Answers alone leave the tower for a long time on the plateau where it guesses from the question. Since we draw the
pictures we know what lies in every patch, so the tower and the resampler can be told directly. The heads exist during
training only.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from omnilmm.training.data import IGNORED
from omnilmm.training.scenes import CELL_LABELS, CHARACTERS, COLOURS, KINDS

CLASSES = {"kind": len(KINDS) + 1, "colour": len(COLOURS) + 1, "character": len(CHARACTERS) + 1}


class AuxiliaryHeads(nn.Module):
    """Linear readouts of the tower's patches and of the resampler's queries.

    Args:
        vision_width: of the tower's patch outputs.
        width: of the resampler's outputs.
    """

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({name: nn.Linear(vision_width, count) for name, count in CLASSES.items()})
        self.position = nn.Linear(vision_width, 2)
        self.cells = nn.Linear(width, CELL_LABELS)

    def forward(self, patches: Tensor, features: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            patches: [B, L, D_v] tower outputs.
            features: [B, Q, D] resampler outputs, Q = number of cells.
            batch: see `data.collate`.
        """
        losses = {
            f"patch_{name}": F.cross_entropy(
                head(patches).flatten(0, 1), batch[f"patch_{name}"].flatten(), ignore_index=IGNORED
            )
            for name, head in self.classes.items()
        }
        real = ~batch["patch_position"].isnan()
        losses["patch_position"] = F.mse_loss(self.position(patches)[real], batch["patch_position"][real])
        losses["cells"] = F.binary_cross_entropy_with_logits(self.cells(features), batch["cells"]) * CELL_LABELS / 10
        return losses
