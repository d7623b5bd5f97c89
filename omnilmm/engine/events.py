"""What an engine says while it answers: one stream of events, the same for pages, the terminal and Python.

    Progress*  (ThoughtDelta* TextDelta* | Preview*)  Finished

When sampling, `"".join(delta.text …)` is `Finished.text` for the `TextDelta`s and `Finished.thought.text` for the
`ThoughtDelta`s; with beam search each `Preview` replaces the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Literal, Protocol

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture, Thought
from omnilmm.engine.options import Options
from omnilmm.hardware import Choice

HEARTBEAT_S = 0.3  # the longest that `next()` of an answer's iterator blocks

Report = Callable[[int, int], None]  # called with the bytes that are on this disk, and all bytes of a download
Stage = Literal["downloading", "loading", "waiting", "reading", "frames", "prefill"]
Reason = Literal["end", "length", "switched"]


@dataclass(frozen=True)
class Progress:
    """Before the first word: what is going on, and how far it is.

    "downloading": `done` of `total` bytes. "waiting": more are answered than go together, and `total` have to finish
    first. "reading": `total` pictures are looked at, the one numbered `done` now; 0 where that is not known. "frames":
    the same of the frames of videos. "prefill": of the prompt's `total` tokens that are not known from earlier turns
    `done` are read. Repeated at least twice a second, so that nobody who iterates is blocked for long.
    """

    stage: Stage
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class TextDelta:
    """More text of the answer; never half a character.

    Attributes:
        text: to be appended.
        new_tokens: so far, those of the thought included; 0 where they are not counted.
    """

    text: str
    new_tokens: int = 0


@dataclass(frozen=True)
class ThoughtDelta:
    """More of what the model thinks before its answer, which is no part of the answer.

    Attributes:
        text: to be appended to the thought.
        new_tokens: so far; 0 where they are not counted.
    """

    text: str
    new_tokens: int = 0


@dataclass(frozen=True)
class Preview:
    """Beam search: the best answer so far, to be shown instead of the last one.

    Attributes:
        text: all of it.
        new_tokens: of it and its thought; 0 where they are not counted.
        thought: before it, of a model that thinks.
    """

    text: str
    new_tokens: int = 0
    thought: Thought | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        text_tokens, picture_tokens: of the prompt.
        new_tokens: of the answer, its thought included.
        reused: of the prompt, known from the owner's earlier turns.
    """

    text_tokens: int
    picture_tokens: int
    new_tokens: int
    reused: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds of one answer, from when the engine turned to it."""

    waited_s: float
    first_token_s: float
    total_s: float

    def tokens_per_s(self, new_tokens: int) -> float:
        """Speed after the first token."""
        return (new_tokens - 1) / max(self.total_s - self.first_token_s, 1e-9) if new_tokens > 1 else 0.0


@dataclass(frozen=True)
class Finished:
    """The whole answer.

    Attributes:
        text: the joined deltas, or the winning beam.
        reason: "end" the model ended it, "length" it reached `max_new_tokens`, "switched" another model was chosen.
        usage: tokens.
        timings: seconds.
        dropped_messages: how many of the oldest messages did not fit into the model's context.
        thought: before the answer, of a model that thinks.
    """

    text: str
    reason: Reason
    usage: Usage
    timings: Timings
    dropped_messages: int = 0
    thought: Thought | None = None

    @property
    def is_cut_in_thought(self) -> bool:
        """Whether the length limit was reached before the answer began."""
        return self.reason == "length" and self.thought is not None and not self.thought.is_closed


@dataclass(frozen=True)
class PictureSlice:
    """One look of a model at a picture: all of it (the overview), or a slice.

    Attributes:
        box: which part, (left, top, right, bottom) in pixels of the picture.
        width, height: of what the model sees of it, in pixels.
        tokens: that it takes in a prompt.
    """

    box: tuple[float, float, float, float]
    width: int
    height: int
    tokens: int


Event = Progress | ThoughtDelta | TextDelta | Preview | Finished


class Engine(Protocol):
    """Answers conversations. Closing the iterator of `stream`, whoever closes it, stops the model within one token."""

    @property
    def card(self) -> ModelCard:
        """Which model answers."""

    @property
    def device(self) -> Choice:
        """On what, and why."""

    @property
    def dtype(self) -> Choice:
        """With which dtype, and why."""

    @property
    def memory_bytes(self) -> int | None:
        """What its weights really take; None while they are not loaded, or where that is not known."""

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message of a conversation.

        Args:
            conversation: all of it; an engine knows no conversations.
            options: the model's own defaults if left out.
            owner: who asks, an opaque key. What is known of an owner's earlier turns makes the next one faster, and is
                of no use to anybody else; without an owner nothing of a conversation is kept beyond its answer.

        Raises:
            InputError: The conversation cannot be answered.
            ContextLengthError: The question and its pictures alone do not fit.
        """

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """How the model looks at a picture with these options, overview first; None where that is not known (yet)."""

    def forget(self, owner: Hashable) -> None:
        """The owner has left, or starts over: keep nothing of their conversations."""
