"""What the engine needs of a model with its processor: a conversation in, ids out, step by step.

Two kinds of models, one protocol: of ours every step is the engine's own (`native`), those that transformers has itself
answer through their own `generate` (`transformers_backend`).
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import PictureSlice, Progress
from omnilmm.engine.options import Options
from omnilmm.engine.thoughts import ThinkingFormat

Step = list[int] | Progress | None  # what a step of an answer gave: all new ids so far, how far it is, or nothing


@dataclass
class Request:
    """What is to be answered, and what its prompt turned out to be.

    Attributes:
        conversation: fits into the context.
        options: sampling or beam search.
        seed: of the random numbers.
        owner: whose memory of earlier turns may be used, and kept; None for nobody's.
        text_tokens, picture_tokens: of the prompt, once it is made.
        reused: how many of them were remembered.
    """

    conversation: Conversation
    options: Options
    seed: int
    owner: Hashable = None
    text_tokens: int = 0
    picture_tokens: int = 0
    reused: int = 0


class Backend(Protocol):
    """A model with its processor."""

    @property
    def model(self) -> Any:
        """On its device."""

    @property
    def tokenizer(self) -> Any:
        """Decodes answers."""

    @property
    def stop_ids(self) -> Sequence[int]:
        """Any of them ends an answer."""

    @property
    def thinking(self) -> ThinkingFormat | None:
        """How thoughts are asked for and marked; None for a model that does not think."""

    @property
    def suppressed_ids(self) -> Set[int]:
        """Tokens that may be generated, but are no text."""

    def length(self, conversation: Conversation, options: Options | None = None) -> int:
        """Tokens of its prompt, as these options make it; the model is not touched."""

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """How a picture is sliced for the model; None where only its own processor knows."""

    def generate(self, request: Request) -> Generator[Step]:
        """Generate an answer step by step, on the thread where the model may be used.

        Returns:
            All new ids so far after every token (with beam search those of the best beam, at the end the winner's),
            before the first one also how far it is; None after other steps. Closing it is stopping.
        """

    def forget(self, owner: Hashable) -> None:
        """Keep nothing of an owner."""

    def free(self) -> int:
        """Give up everything that is kept for later; returns how many bytes that were."""
