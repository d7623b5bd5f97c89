"""The weights of a checkpoint, each read when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from omnilmm.models.checkpoint import Shapes, lazy_tensors, tensor_shapes
from omnilmm.versions import without_sound

# Changes a tensor on its way into the file, given its name: how a LoRA adapter is merged into the weights.
Merge = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """Weights by the names of the checkpoint (`llm.`, `vpm.`, `resampler.`).

    Attributes:
        shapes: shape of each tensor.
        read: reads a tensor by its name.
    """

    shapes: Shapes
    read: Callable[[str], Tensor]

    def merged(self, merge: Merge) -> Weights:
        """Return these weights with each tensor changed by `merge` as it is read; it must keep the shape."""
        return Weights(self.shapes, lambda name: merge(name, self.read(name)))


def weights_of(folder: Path) -> Weights:
    """Return the weights in a folder; those of sound and speech are left out.

    Raises:
        CheckpointError: Weights are missing, damaged or not plain tensors.
    """
    shapes = without_sound(tensor_shapes(folder))
    tensors = lazy_tensors(folder)
    return Weights(shapes, lambda name: tensors[name]())
