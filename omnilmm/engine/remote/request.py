"""One question to a server, and how it is adapted to what the server refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from omnilmm.conversation import Conversation
from omnilmm.engine.context import without_oldest
from omnilmm.engine.options import Options
from omnilmm.engine.remote.client import RefusedError
from omnilmm.engine.remote.dialects import SYNONYMS, Dialect
from omnilmm.engine.remote.messages import SMALLER, Encoder
from omnilmm.errors import ContextLengthError


@dataclass
class RemoteRequest:
    """A request whose fields and messages shrink until the server accepts it.

    Attributes:
        model: the model's id there.
        conversation: the whole conversation.
        options: the generation options.
        dialect: the fields that the server understands.
        refused: fields that this server does not know, as it answered now or to an earlier request.
        more: further fields.
        dropped: how many of the oldest messages are left out.
        longest: longest side of a picture in pixels; None sends them as they are.
        renamed: fields that are sent under their newer name.
        omitted: fields that are left out of this request alone, as the server may take another value of them.
    """

    model: str
    conversation: Conversation
    options: Options
    dialect: Dialect
    refused: set[str]
    more: dict[str, Any] = field(default_factory=dict)
    dropped: int = 0
    longest: int | None = None
    renamed: set[str] = field(default_factory=set)
    omitted: set[str] = field(default_factory=set)

    def fields(self) -> dict[str, Any]:
        """Return all fields of the body that the server may refuse."""
        given = {"stream_options": {"include_usage": True}, **self.more, **self.dialect.fields(self.options)}
        given = {SYNONYMS[name] if name in self.renamed else name: value for name, value in given.items()}
        return {name: value for name, value in given.items() if name not in self.refused | self.omitted}

    def body(self, encoder: Encoder) -> dict[str, Any]:
        """Return the body of the request."""
        messages = encoder.messages(without_oldest(self.conversation, self.dropped), self.longest)
        return {"model": self.model, "messages": messages, "stream": True, **self.fields()}

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that the server refuses, by our names; fields that are none of our options are left out."""
        asked = {**self.more, **self.dialect.fields(self.options)}
        names = {self.dialect.option(name) for name in self.refused | self.omitted if name in asked}
        return tuple(sorted(names & set(vars(self.options))))

    def leave_out(self, names: Sequence[str], *, are_unknown: bool) -> bool:
        """Leave out fields; returns False if none of them can be.

        The limit of the length is never left out: if the server does not know it, it is sent under its newer name.

        Args:
            names: the fields.
            are_unknown: whether the server does not know them; else it has refused their values.
        """
        named, others = [name for name in names if name in SYNONYMS], set(names) - {*SYNONYMS, *SYNONYMS.values()}
        if are_unknown:
            self.renamed.update(named)
            self.refused.update(others)
        else:
            self.omitted.update(others)
        return bool(others or (named and are_unknown))

    def shorten(self, error: RefusedError) -> bool:
        """Leave out oldest turns; returns False if there is none left to leave out."""
        last = len(self.conversation.messages) - 1
        if self.dropped >= last:
            return False
        self.dropped = _next_start(self.conversation, self.dropped, *_counts(error))
        return True

    def shrink(self) -> bool:
        """Send smaller pictures; returns False if they are small already, or if there are none."""
        has_pictures = bool(self.conversation.images)
        if self.longest is not None or not has_pictures:
            return False
        self.longest = SMALLER
        return True


def _counts(error: RefusedError) -> tuple[int, int]:
    """Return the tokens of the prompt and of the context as llama.cpp's error has them; 0 where they are not given."""
    inner = error.body.get("error") if isinstance(error.body, dict) else None
    inner = inner if isinstance(inner, dict) else {}
    found = (inner.get("n_prompt_tokens"), inner.get("n_ctx"))
    needed, context = (value if isinstance(value, int) else 0 for value in found)
    return needed, context


def _next_start(conversation: Conversation, dropped: int, needed: int, context: int) -> int:
    """Return how many messages to leave out next: by the share of text that is too much, or else one more turn."""
    messages = conversation.messages
    start = dropped + 2
    if not needed or not context:
        return start
    written = [len(message.text) for message in messages]
    total = max(sum(written[dropped:]), 1)
    fits: Callable[[int], bool] = lambda begin: sum(written[begin:]) * needed <= total * context  # noqa: E731
    return next((begin for begin in range(start, len(messages), 2) if fits(begin)), len(messages) - 1)


def too_long(request: RemoteRequest, error: RefusedError, reason: str) -> ContextLengthError:
    """Return the error for a question that does not fit alone."""
    needed, context = _counts(error)
    if needed and context:
        return ContextLengthError("server_context_too_short", needed=needed, context=context)
    return ContextLengthError("server_context_says", reason=reason)
