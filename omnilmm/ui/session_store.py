"""Conversations that outlive a reload: kept in memory for a while, under a token that only that browser knows."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilmm.conversation import Conversation, Message, Role
from omnilmm.ui.note import Note
from omnilmm.ui.past import Chat

KEPT_S = 30 * 60
MOST_BYTES = 2**30
_MOST_LOST = 20  # pictures of one message that are mentioned
_MESSAGE_BYTES = 1000  # besides text and pixels


@dataclass(frozen=True)
class Kept:
    """A conversation with the notes under its answers, which of its browser's chats it is, and the one before it."""

    conversation: Conversation
    notes: tuple[Note | None, ...]
    chat: Chat = field(default_factory=Chat)
    earlier: Kept | None = None  # can be gone back to

    @property
    def size(self) -> int:
        """About how many bytes it takes with all before it: pixels, text, and a little per message."""
        return sum(_size(conversation) for conversation in self._all())

    def _all(self) -> Iterator[Conversation]:
        kept: Kept | None = self
        while kept is not None:
            yield kept.conversation
            kept = kept.earlier


def _size(conversation: Conversation) -> int:
    pictures = set(conversation.pictures)
    pixels = sum(3 * picture.image.width * picture.image.height for picture in pictures)
    texts = sum(len(message.text) for message in conversation.messages)
    return pixels + 4 * texts + _MESSAGE_BYTES * (1 + len(conversation.messages))


class Keeper:
    """Keeps conversations of visitors who may come back.

    Args:
        kept_s: for how long after they were last kept.
        most_bytes: of all together; those that nobody came back to for longest go first.
        now: tells the time in seconds.
    """

    def __init__(
        self, kept_s: float = KEPT_S, most_bytes: int = MOST_BYTES, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.kept_s, self.most_bytes, self._now = kept_s, most_bytes, now
        self._kept: OrderedDict[str, tuple[float, Kept]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @staticmethod
    def new_token() -> str:
        """A token that nobody can guess."""
        return secrets.token_urlsafe(24)

    def keep(self, token: str, kept: Kept) -> None:
        """Keep this for a token, in place of what there was; an empty conversation is not kept."""
        with self._lock:
            self._kept.pop(token, None)
            if kept.conversation.messages and kept.size <= self.most_bytes:
                self._kept[token] = (self._now(), kept)
            self._tidy()

    def get(self, token: str) -> Kept | None:
        """What is kept for a token; None where there is nothing (any more)."""
        with self._lock:
            self._tidy()
            _, kept = self._kept.get(token, (0.0, None))
            return kept

    def forget(self, token: str) -> None:
        """Keep nothing for a token any more."""
        with self._lock:
            self._kept.pop(token, None)

    def _tidy(self) -> None:
        oldest = self._now() - self.kept_s
        while self._kept:
            since, _ = next(iter(self._kept.values()))
            if since >= oldest and sum(kept.size for _, kept in self._kept.values()) <= self.most_bytes:
                return
            self._kept.popitem(last=False)


class Memory(BaseModel):
    """What a browser remembers of its page, as JSON: enough to come back, and the text if the server is a new one.

    Attributes:
        token: of the conversation in the `Keeper`.
        language: that the visitor chose; empty for the browser's own.
        said: role, text and number of pictures of each message.
        chat: which of the browser's past chats it is.
        restore: the past chat to open if the browser has it: the server lost its pictures.
        account: the name of the visitor; empty where nobody has one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str = Field(default="", max_length=100)
    language: str = Field(default="", max_length=10)
    said: tuple[tuple[Role, str, int], ...] = ()
    chat: str = Field(default="", max_length=100)
    restore: str = Field(default="", max_length=100)
    account: str = ""

    @classmethod
    def of(
        cls, token: str, language: str, conversation: Conversation, chat: Chat | None = None, account: str = ""
    ) -> Memory:
        """What to remember of a conversation."""
        said = tuple((message.role, message.text, len(message.pictures)) for message in conversation.messages)
        ids = {"chat": chat.id, "restore": chat.text_of} if chat else {}
        return cls(token=token, language=language, said=said, account=account, **ids)

    @classmethod
    def read(cls, stored: str) -> Memory:
        """From the browser's storage; an empty memory where it is not ours."""
        try:
            memory = cls.model_validate_json(stored or "{}")
        except ValidationError:
            return cls()
        roles = [role for role, _, _ in memory.said]
        return memory if roles == ["user", "assistant"] * (len(roles) // 2) else cls()

    @property
    def lost_chat(self) -> Chat:
        """For the text of a conversation whose pictures the server has no more."""
        return Chat(text_of=self.restore or self.chat)

    def conversation(self, lost: str) -> Conversation:
        """The text, with `lost` said in place of each picture."""
        messages = (
            Message(role, (*[lost] * min(pictures, _MOST_LOST), text) if role == "user" else (text,))
            for role, text, pictures in self.said
        )
        return Conversation(tuple(messages))
