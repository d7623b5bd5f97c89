"""The interface between the engine and a model with its processor: conversation in, token ids out, step by step.

There are two implementations: `native` for the models of this package, whose prefill and decoding loop are our own, and
`transformers_backend` for the models of transformers, which run through their own `generate`.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import PictureSlice, Progress
from omnilmm.engine.options import Options
from omnilmm.engine.thoughts import ThinkingFormat

Step = list[int] | Progress | None  # result of one step: all new ids so far, progress, or nothing


@dataclass
class Request:
    """A generation request, and the token counts of its prompt.

    Attributes:
        conversation: the conversation, which fits into the context.
        options: sampling or beam search.
        seed: seed of the random numbers.
        owner: key of the user whose prefix cache is used and updated; None disables it.
        text_tokens, picture_tokens: tokens of the prompt, set once it is tokenized.
        reused: how many of them were reused from the prefix cache.
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
        """The model, on its device."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that decodes answers."""

    @property
    def stop_ids(self) -> Sequence[int]:
        """The stop tokens: any of them ends an answer."""

    @property
    def thinking(self) -> ThinkingFormat | None:
        """How thinking is switched on and marked; None for a model that does not think."""

    @property
    def suppressed_ids(self) -> Set[int]:
        """Tokens that may be generated, but are left out of the text."""

    def length(self, conversation: Conversation, options: Options | None = None) -> int:
        """Return the number of prompt tokens of a conversation with these options, without running the model."""

    def count(self, text: str) -> int:
        """Return the number of tokens of a text on its own."""

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how a picture is sliced for the model; None if only the model's own processor knows."""

    def generate(self, request: Request) -> Generator[Step]:
        """Generate an answer step by step, on the model's thread. Closing the generator stops the answer.

        Returns:
            A generator that yields all new ids so far after every token (with beam search those of the currently best
            beam, at the end those of the final one), progress before the first token, and None after other steps.
        """

    def forget(self, owner: Hashable) -> None:
        """Drop everything cached for an owner."""

    def free(self) -> int:
        """Clear all caches; returns how many bytes were freed."""
