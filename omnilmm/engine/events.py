"""The events an engine yields while it answers: one stream, the same for web pages, the terminal and Python.

    Progress*  (ThoughtDelta* TextDelta* | Preview*)  Finished

When sampling, the joined texts of the `TextDelta`s are `Finished.text`, and those of the `ThoughtDelta`s are
`Finished.thought.text`; with beam search each `Preview` replaces the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Literal, Protocol

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture, Thought
from omnilmm.engine.options import Options
from omnilmm.hardware import Choice

HEARTBEAT_S = 0.3  # maximum time that `next()` on an answer's iterator blocks

Report = Callable[[int, int], None]  # called with the bytes on this disk and the total bytes of a download
Stage = Literal["downloading", "loading", "waiting", "busy", "encoding", "frames", "prefill"]
Reason = Literal["end", "length", "switched"]


@dataclass(frozen=True)
class Progress:
    """Progress before the first token of the answer.

    "downloading": `done` of `total` bytes are downloaded. "waiting": the answer is queued, and `total` others have to
    finish first. "busy": a server accepts no more requests for now. "encoding": `total` pictures are encoded, currently
    number `done`; 0 if that is not known. "frames": the same for video frames. "prefill": `done` of the prompt's
    `total` tokens that are not in the KV cache are prefilled. Repeated at least twice a second, so that the consumer is
    not blocked for long.
    """

    stage: Stage
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class TextDelta:
    """More text of the answer; characters are never split.

    Attributes:
        text: the text to append.
        new_tokens: tokens generated so far, those of the thought included; 0 if they are not counted.
    """

    text: str
    new_tokens: int = 0


@dataclass(frozen=True)
class ThoughtDelta:
    """More text of the model's thought, which precedes the answer and is not part of it.

    Attributes:
        text: the text to append to the thought.
        new_tokens: tokens generated so far; 0 if they are not counted.
    """

    text: str
    new_tokens: int = 0


@dataclass(frozen=True)
class Preview:
    """The best beam so far of a beam search; replaces the previous preview.

    Attributes:
        text: the whole answer so far.
        new_tokens: tokens of the answer and its thought; 0 if they are not counted.
        thought: the thought before the answer, for a model that thinks.
    """

    text: str
    new_tokens: int = 0
    thought: Thought | None = None


@dataclass(frozen=True)
class Usage:
    """Token counts of one answer.

    Attributes:
        text_tokens, picture_tokens: tokens of the prompt.
        new_tokens: tokens of the answer, its thought included.
        reused: tokens of the prompt that were reused from the owner's prefix cache.
    """

    text_tokens: int
    picture_tokens: int
    new_tokens: int
    reused: int = 0


@dataclass(frozen=True)
class Timings:
    """Timings of one answer in seconds: until it started to run, and from then to the first and to the last token."""

    waited_s: float
    first_token_s: float
    total_s: float

    def tokens_per_s(self, new_tokens: int) -> float:
        """Return the decoding speed after the first token."""
        return (new_tokens - 1) / max(self.total_s - self.first_token_s, 1e-9) if new_tokens > 1 else 0.0


@dataclass(frozen=True)
class Finished:
    """The whole answer.

    Attributes:
        text: the joined deltas, or the best beam.
        reason: "end": a stop token or stop text; "length": `max_new_tokens` was reached; "switched": the model was
            replaced by another one.
        usage: token counts.
        timings: timings in seconds.
        dropped_messages: number of oldest messages that did not fit into the model's context.
        thought: the thought before the answer, for a model that thinks.
        without_effect: options that were requested and have no effect where the model runs.
    """

    text: str
    reason: Reason
    usage: Usage
    timings: Timings
    dropped_messages: int = 0
    thought: Thought | None = None
    without_effect: tuple[str, ...] = ()

    @property
    def is_cut_in_thought(self) -> bool:
        """Whether the length limit was reached before the answer began."""
        return self.reason == "length" and self.thought is not None and not self.thought.is_closed


@dataclass(frozen=True)
class PictureSlice:
    """One slice of a picture as the model encodes it; the first one is the overview of the whole picture.

    Attributes:
        box: the part it shows, as (left, top, right, bottom) in pixels of the picture.
        width, height: its size after resizing, in pixels.
        tokens: the number of tokens it takes in the prompt.
    """

    box: tuple[float, float, float, float]
    width: int
    height: int
    tokens: int


Event = Progress | ThoughtDelta | TextDelta | Preview | Finished


class Engine(Protocol):
    """Answers conversations. Closing the iterator of `stream`, from any thread, stops the model within one token."""

    @property
    def card(self) -> ModelCard:
        """The card of the model."""

    @property
    def device(self) -> Choice:
        """The device it runs on, and why."""

    @property
    def dtype(self) -> Choice:
        """The dtype it computes in, and why."""

    @property
    def memory_bytes(self) -> int | None:
        """The memory its weights occupy; None while they are not loaded, or if that is not known."""

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message of a conversation.

        Args:
            conversation: the whole conversation; an engine keeps no conversation state.
            options: the generation options; the model's own defaults if omitted.
            owner: opaque key of the requesting user. The prefix cache of an owner's earlier turns speeds up the next
                one and is never used for anybody else; without an owner nothing is cached beyond the answer.

        Raises:
            InputError: The conversation cannot be answered.
            ContextLengthError: The question and its pictures alone do not fit.
        """

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how the model slices a picture with these options, overview first; None if not known (yet)."""

    def forget(self, owner: Hashable) -> None:
        """Drop everything cached for an owner, who has left or starts over."""
