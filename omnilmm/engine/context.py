"""Fits a conversation into the model's context: the oldest turns go, the newest question and the last pictures stay.

What a conversation takes is known only once all of it is a prompt, and to make one of a long conversation for every
turn that could go takes minutes. So each message is counted once, by itself, from the newest back to where it cannot
fit any more; of what is left, the counts say where the first whole prompt is worth a try.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from weakref import WeakKeyDictionary

from omnilmm.conversation import Conversation, Message
from omnilmm.errors import ContextLengthError

PIECE = 20_000  # characters counted at once: the longest that nobody is heard meanwhile
# Of tokens counted piece by piece, each message by itself, at least so large a part is there in the whole prompt, too:
# only words that were cut in two are counted otherwise. Of few tokens nothing is concluded.
LEAST_SHARE, FEW = 0.8, 1000
TOLD = 200_000  # characters of a question whose number of tokens is told if they are too many


class ContextWindow:
    """Room for a prompt and its answer.

    Args:
        length: tokens of a conversation's prompt.
        count: tokens of a text by itself.
        context: tokens of prompt and answer together.
    """

    def __init__(self, length: Callable[[Conversation], int], count: Callable[[str], int], context: int) -> None:
        self.length, self.count, self.context = length, count, context
        # Of messages still held: tokens, and of how many of their characters.
        self._counted: WeakKeyDictionary[Message, tuple[int, int]] = WeakKeyDictionary()

    def fit(
        self,
        conversation: Conversation,
        max_new_tokens: int,
        length: Callable[[Conversation], int] | None = None,
    ) -> Generator[None, None, tuple[Conversation, int]]:
        """Drop as few of the oldest turns as needed; yields whenever somebody may want to stop it.

        Args:
            conversation: user and assistant in turn, user last.
            max_new_tokens: what the answer may take of the context.
            length: in place of the window's own, e.g. of a prompt that lets the model think.

        Returns:
            The conversation, and how many messages were dropped. When the turn that showed the last pictures goes, the
            pictures move to the oldest question that stays.

        Raises:
            ContextLengthError: The newest question with its pictures, or with the last ones shown, is too long.
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
        """The longest conversation that fits, if any, and the tokens of the last one tried.

        A conversation with a turn more is never shorter, so each try rules out all on one side of it. Mostly the second
        is the last: what the first one takes beyond the counts (headers, pictures) the others take, too.
        """
        starts = sorted(counts)
        low, high = 0, len(starts)  # those before `low` are too long; that at `high` fits
        found, needed, more = None, 0, 0
        while low < high:
            likely = (number for number in range(low, high) if counts[starts[number]] + more <= room)
            number = next(likely, high - 1)
            yield
            shorter = _without_oldest(conversation, starts[number])
            needed = length(shorter)
            more = needed - counts[starts[number]]
            if needed <= room:
                found, high = shorter, number
            else:
                low = number + 1
        return found, needed

    def _counts(self, conversation: Conversation, most: float) -> Generator[None, None, dict[int, int]]:
        """Tokens counted from each question on that may fit, by its place; none if the newest alone is too long."""
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
        """Tokens of a message, or more than `most` of them."""
        text = _certain(message)
        tokens, end = self._counted.get(message, (0, 0))
        while end < len(text) and tokens <= most:
            piece = text[end : end + PIECE]
            tokens, end = tokens + self.count(piece), end + len(piece)
            self._counted[message] = tokens, end
            yield
        return tokens


def _certain(message: Message) -> str:
    """What every template says of a message: blanks around it may go, and what earlier answers thought."""
    text = message.text
    return (text.rpartition("</think>")[2] if message.role == "assistant" else text).strip()


def _without_oldest(conversation: Conversation, dropped: int) -> Conversation:
    kept = conversation.messages[dropped:]
    if not dropped or any(message.shown for message in kept):
        return replace(conversation, messages=kept)
    shown = next((m.shown for m in reversed(conversation.messages[:dropped]) if m.shown), ())
    first = Message(kept[0].role, (*shown, *kept[0].parts))
    return replace(conversation, messages=(first, *kept[1:]))
