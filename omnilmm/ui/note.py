"""The content of the small line under an answer, in no language; `texts.Texts.note` words it."""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.engine.events import Finished, Preview, Progress, TextDelta, ThoughtDelta


@dataclass(frozen=True)
class Note:
    """How an answer came about, or what is happening before it begins.

    Attributes:
        event: the engine's latest event; None before the first.
        stopped: the visitor stopped the answer.
        set_aside: the earlier turns were left out, since the model takes one picture.
        waited_s: whole seconds since the question, before the first word.
        tokens_per_s: speed since the first word while the answer is streamed; 0 if unknown.
        is_photo: the newest picture is a photo, and the model that answered knows drawings only.
    """

    event: Progress | ThoughtDelta | TextDelta | Preview | Finished | None = None
    stopped: bool = False
    set_aside: bool = False
    waited_s: int = 0
    tokens_per_s: float = 0.0
    is_photo: bool = False

    @property
    def can_continue(self) -> bool:
        """Whether the answer was cut off by the length limit, by the visitor, or by a change of models."""
        return self.stopped or (isinstance(self.event, Finished) and self.event.reason != "end")
