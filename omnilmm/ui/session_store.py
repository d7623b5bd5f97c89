"""Sessions that survive a reload: held in memory for a while, under a token that only that browser knows."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilmm.conversation import Conversation, Message, Role, Thought
from omnilmm.ui.note import Note
from omnilmm.ui.past import Chat

LIFETIME_S = 30 * 60
MAX_BYTES = 2**30
_MAX_LOST = 20  # pictures of one message that are replaced by a text
_MESSAGE_BYTES = 1000  # estimate, besides text and pixels


@dataclass(frozen=True)
class SavedSession:
    """A conversation with its notes, the browser's chat that it belongs to, and the chat before it."""

    conversation: Conversation
    notes: tuple[Note | None, ...]
    chat: Chat = field(default_factory=Chat)
    earlier: SavedSession | None = None  # that `Session.undo` can reopen

    @property
    def size(self) -> int:
        """The approximate size in bytes with all earlier chats: pixels, text, and a constant per message."""
        return sum(_size(conversation) for conversation in self._all())

    def _all(self) -> Iterator[Conversation]:
        saved: SavedSession | None = self
        while saved is not None:
            yield saved.conversation
            saved = saved.earlier


def _size(conversation: Conversation) -> int:
    pictures = set(conversation.images)
    pixels = sum(3 * picture.image.width * picture.image.height for picture in pictures)
    texts = sum(len(text) for message in conversation.messages for text in (message.text, _thought_of(message)))
    return pixels + 4 * texts + _MESSAGE_BYTES * (1 + len(conversation.messages))


def _thought_of(message: Message) -> str:
    return message.thought.text if message.thought else ""


class SessionStore:
    """Stores the sessions of visitors who may come back.

    Args:
        lifetime_s: how long a session is held after it was last saved.
        max_bytes: limit for all together; the least recently saved are evicted first.
        now: returns the time in seconds.
    """

    def __init__(
        self, lifetime_s: float = LIFETIME_S, max_bytes: int = MAX_BYTES, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s, self.max_bytes, self._now = lifetime_s, max_bytes, now
        self._saved: OrderedDict[str, tuple[float, int, SavedSession]] = OrderedDict()  # with the time and the size
        self._bytes = 0  # of all together
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._saved)

    @staticmethod
    def new_token() -> str:
        """Return an unguessable token."""
        return secrets.token_urlsafe(24)

    def save(self, token: str, saved: SavedSession) -> None:
        """Store a session under a token, in place of the previous one; an empty conversation is not stored."""
        size = saved.size
        with self._lock:
            if token in self._saved:
                self._drop(token)
            if saved.conversation.messages and size <= self.max_bytes:
                self._saved[token] = (self._now(), size, saved)
                self._bytes += size
            self._evict()

    def get(self, token: str) -> SavedSession | None:
        """Return the session of a token; None if there is none (any more)."""
        with self._lock:
            self._evict()
            found = self._saved.get(token)
            return found[-1] if found else None

    def _evict(self) -> None:
        oldest = self._now() - self.lifetime_s
        while self._saved:
            token, (since, *_) = next(iter(self._saved.items()))
            if since >= oldest and self._bytes <= self.max_bytes:
                return
            self._drop(token)

    def _drop(self, token: str) -> None:
        _, size, _ = self._saved.pop(token)
        self._bytes -= size


class BrowserState(BaseModel):
    """What a browser stores of its page, as JSON: enough to restore it, and the text in case the server was restarted.

    Attributes:
        token: key of the session in the `SessionStore`.
        language: the language that the visitor chose; empty for the browser's own.
        messages: role, text and number of pictures of each message.
        thoughts: the thought of each message; empty if there are none.
        chat: which of the browser's past chats it is.
        restore: the past chat to open if the browser has it: the server lost its pictures.
        account: the visitor's account; empty where no login is required.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str = Field(default="", max_length=100)
    language: str = Field(default="", max_length=10)
    messages: tuple[tuple[Role, str, int], ...] = ()
    thoughts: tuple[Thought | None, ...] = ()
    chat: str = Field(default="", max_length=100)
    restore: str = Field(default="", max_length=100)
    account: str = ""

    @classmethod
    def of(
        cls, token: str, language: str, conversation: Conversation, chat: Chat | None = None, account: str = ""
    ) -> BrowserState:
        """Return the state for a conversation."""
        messages = tuple((message.role, message.text, len(message.pictures)) for message in conversation.messages)
        thoughts = tuple(message.thought for message in conversation.messages)
        ids = {"chat": chat.id, "restore": chat.text_of} if chat else {}
        return cls(
            token=token,
            language=language,
            messages=messages,
            thoughts=thoughts if any(thoughts) else (),
            account=account,
            **ids,
        )

    @classmethod
    def read(cls, stored: str) -> BrowserState:
        """Parse what the browser stored; returns an empty state if it is invalid."""
        try:
            state = cls.model_validate_json(stored or "{}")
        except ValidationError:
            return cls()
        roles = [role for role, _, _ in state.messages]
        return state if roles == ["user", "assistant"] * (len(roles) // 2) else cls()

    @property
    def text_only_chat(self) -> Chat:
        """Return the chat for the text of a conversation whose pictures the server has lost."""
        return Chat(text_of=self.restore or self.chat)

    def conversation(self, lost: str) -> Conversation:
        """Return the text as a conversation, with `lost` in place of each picture."""
        messages = (
            Message(role, (*[lost] * min(pictures, _MAX_LOST), text))
            if role == "user"
            else Message(role, (text,), thought)
            for (role, text, pictures), thought in zip_longest(self.messages, self.thoughts[: len(self.messages)])
        )
        return Conversation(tuple(messages))
