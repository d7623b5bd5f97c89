"""Fits a conversation into the model's context: the oldest turns go, the newest question and the last pictures stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from omnilmm.conversation import Conversation, Message
from omnilmm.errors import ContextLengthError


def fit(
    conversation: Conversation, length: Callable[[Conversation], int], context: int, max_new_tokens: int
) -> tuple[Conversation, int]:
    """Drop as few of the oldest turns as needed.

    Args:
        conversation: user and assistant in turn, user last.
        length: tokens of a conversation's prompt.
        context: tokens of prompt and answer together.
        max_new_tokens: what the answer may take of them.

    Returns:
        The conversation, and how many messages were dropped. When the turn that showed the last pictures goes, the
        pictures move to the oldest question that stays.

    Raises:
        ContextLengthError: The newest question with its pictures, or with the last ones shown, is too long.
    """
    room = context - max_new_tokens
    for dropped in range(0, len(conversation.messages), 2):
        shorter = _without_oldest(conversation, dropped)
        needed = length(shorter)
        if needed <= room:
            return shorter, dropped
    raise ContextLengthError(
        f"The question with its pictures takes {needed} tokens, but only {max(room, 0)} fit: the model's context is "
        f"{context} tokens, of which {max_new_tokens} are reserved for the answer. Shorten the question, send fewer "
        "or smaller pictures, or lower the length limit of the answer."
    )


def _without_oldest(conversation: Conversation, dropped: int) -> Conversation:
    kept = conversation.messages[dropped:]
    if not dropped or any(message.pictures for message in kept):
        return replace(conversation, messages=kept)
    shown = next((m.pictures for m in reversed(conversation.messages[:dropped]) if m.pictures), ())
    first = Message(kept[0].role, (*shown, *kept[0].parts))
    return replace(conversation, messages=(first, *kept[1:]))
