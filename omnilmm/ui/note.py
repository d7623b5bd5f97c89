"""What is to be said in the small line under an answer, in no language; `texts.Texts.note` says it."""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.engine.events import Finished, Preview, Progress


@dataclass(frozen=True)
class Note:
    """How an answer came about, or what is going on before it.

    Attributes:
        event: the engine's last word about it; None before the first.
        stopped: the visitor wanted no more of it.
        set_aside: the pictures of earlier turns were left out, since the model takes one picture.
    """

    event: Progress | Preview | Finished | None = None
    stopped: bool = False
    set_aside: bool = False

    @property
    def can_go_on(self) -> bool:
        """Whether the answer was cut off, by the length limit or by the visitor."""
        return self.stopped or (isinstance(self.event, Finished) and self.event.reason == "length")
