"""How long a training takes, and in which steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps.

    Attributes:
        epochs: passes over the data.
        batch_size: rows per device at once.
        accumulate: batches per step of the optimizer.
        learning_rate: after the warm-up, from where it falls as a cosine.
        warmup: share of the steps in which the learning rate rises.
        save_steps: steps between two saved states; None for one per epoch.
        seed: of the order of the rows and of LoRA's initial weights.
        checkpointing: compute activations again instead of keeping them.
        half: compute in bfloat16 with float32 weights.
    """

    epochs: float = 3.0
    batch_size: int = 1
    accumulate: int = 8
    learning_rate: float = 1e-4
    warmup: float = 0.03
    save_steps: int | None = None
    seed: int = 0
    checkpointing: bool = True
    half: bool = False
