"""Fits a conversation into the context: the oldest turns are dropped, the newest question and last pictures are kept.

The exact length of a conversation is known only from its rendered prompt, and rendering a long conversation once for
every turn that could be dropped takes minutes. So each message is tokenized once on its own, from the newest backwards
until no more can fit; the search for the longest conversation that fits starts from these counts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from weakref import WeakKeyDictionary

from omnilmm.conversation import Conversation, Message
from omnilmm.errors import ContextLengthError

PIECE = 20_000  # characters tokenized at once: counting can be stopped only between pieces
# The whole prompt has at least this share of the tokens counted piece by piece, each message on its own: only words
# that were cut in two are tokenized differently. `FEW` is a margin for small counts.
LEAST_SHARE, FEW = 0.8, 1000
TOLD = 200_000  # characters of question and system prompt up to which the error states the number of tokens


def fitted(fitting: Generator[object, None, tuple[Conversation, int]]) -> tuple[Conversation, int]:
    """Return the result of a fit, for a caller that would not stop it."""
    while True:
        try:
            next(fitting)
        except StopIteration as end:
            result: tuple[Conversation, int] = end.value
            return result


class ContextWindow:
    """The model's context window, shared by prompt and answer.

    Args:
        length: returns the number of tokens of a conversation's prompt.
        count: returns the number of tokens of a text on its own.
        context: maximum number of tokens of prompt and answer together.
    """

    def __init__(self, length: Callable[[Conversation], int], count: Callable[[str], int], context: int) -> None:
        self.length, self.count, self.context = length, count, context
        # Per message still referenced: tokens counted so far, and the characters they cover.
        self._counted: WeakKeyDictionary[Message, tuple[int, int]] = WeakKeyDictionary()

    def fit(
        self,
        conversation: Conversation,
        max_new_tokens: int,
        length: Callable[[Conversation], int] | None = None,
    ) -> Generator[None, None, tuple[Conversation, int]]:
        """Drop as few of the oldest turns as needed; yields regularly, so that the caller can stop it.

        Args:
            conversation: alternating user and assistant messages, ending with the user's.
            max_new_tokens: tokens of the context reserved for the answer.
            length: replaces the window's own function, e.g. for a prompt that lets the model think.

        Returns:
            The conversation, and how many messages were dropped. If the turn with the last pictures is dropped, the
            pictures move to the oldest question that is kept.

        Raises:
            ContextLengthError: The newest question is too long together with its pictures or the last ones shown.
        """
        length = length or self.length
        room = self.context - max_new_tokens
        written = len(conversation.system or "") + sum(len(message.text) for message in conversation.messages)
        if written <= PIECE and length(conversation) <= room:
            return conversation, 0
        counts = yield from self._counts(conversation, max(room, 0) / LEAST_SHARE + FEW)
        last = len(conversation.messages) - 1
        if not counts and len(conversation.messages[last].text) + len(conversation.system or "") > TOLD:
            raise ContextLengthError(
                "context_far_too_short", room=max(room, 0), context=self.context, reserved=max_new_tokens
            )
        found, needed = yield from self._search(conversation, counts or {last: 0}, room, length)
        if found is None:
            raise ContextLengthError(
                "context_too_short", needed=needed, room=max(room, 0), context=self.context, reserved=max_new_tokens
            )
        return found, len(conversation.messages) - len(found.messages)

    def _search(
        self, conversation: Conversation, counts: dict[int, int], room: int, length: Callable[[Conversation], int]
    ) -> Generator[None, None, tuple[Conversation | None, int]]:
        """Return the longest conversation that fits, if any, and the number of tokens of the last one tried.

        One more turn never makes a prompt shorter, so each try rules out all candidates on one side of it. Usually two
        tries suffice: what the first prompt takes beyond the counts (headers, pictures), the others take as well.
        """
        starts = sorted(counts)
        low, high = 0, len(starts)  # starts before `low` are too long; the one at `high` fits
        found, needed, more = None, 0, 0
        while low < high:
            likely = (number for number in range(low, high) if counts[starts[number]] + more <= room)
            number = next(likely, high - 1)
            yield
            shorter = without_oldest(conversation, starts[number])
            needed = length(shorter)
            more = needed - counts[starts[number]]
            if needed <= room:
                found, high = shorter, number
            else:
                low = number + 1
        return found, needed

    def _counts(self, conversation: Conversation, most: float) -> Generator[None, None, dict[int, int]]:
        """Return the tokens from each question on that may fit, by its index; empty if the newest alone is too long."""
        counts = {}
        total = yield from self._count(Message("user", (conversation.system or "",)), most)
        for place, message in reversed([*enumerate(conversation.messages)]):
            total += yield from self._count(message, most - total)
            if total > most:
                break
            if message.role == "user":
                counts[place] = total
        return counts

    def _count(self, message: Message, most: float) -> Generator[None, None, int]:
        """Count the tokens of a message, stopping once there are more than `most`."""
        text = _certain(message)
        tokens, end = self._counted.get(message, (0, 0))
        while end < len(text) and tokens <= most:
            piece = text[end : end + PIECE]
            tokens, end = tokens + self.count(piece), end + len(piece)
            self._counted[message] = tokens, end
            yield
        return tokens


def _certain(message: Message) -> str:
    """Return the part of a message that every template keeps: without outer white space and without a thought."""
    text = message.text
    return (text.rpartition("</think>")[2] if message.role == "assistant" else text).strip()


def without_oldest(conversation: Conversation, dropped: int) -> Conversation:
    """Return the conversation without its oldest messages; the last pictures among them move to the first one kept."""
    kept = conversation.messages[dropped:]
    if not dropped or any(message.shown for message in kept):
        return replace(conversation, messages=kept)
    shown = next((m.shown for m in reversed(conversation.messages[:dropped]) if m.shown), ())
    first = Message(kept[0].role, (*shown, *kept[0].parts))
    return replace(conversation, messages=(first, *kept[1:]))
