"""Conversations that survive a reload: held in memory for a while, under a token that only that browser knows."""

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
_MAX_LOST = 20  # pictures of one message that are mentioned
_MESSAGE_BYTES = 1000  # besides text and pixels


@dataclass(frozen=True)
class SavedSession:
    """A conversation with the notes under its answers, which of its browser's chats it is, and the one before it."""

    conversation: Conversation
    notes: tuple[Note | None, ...]
    chat: Chat = field(default_factory=Chat)
    earlier: SavedSession | None = None  # that `Session.undo` can restore

    @property
    def size(self) -> int:
        """About how many bytes it takes with all before it: pixels, text, and a little per message."""
        return sum(_size(conversation) for conversation in self._all())

    def _all(self) -> Iterator[Conversation]:
        saved: SavedSession | None = self
        while saved is not None:
            yield saved.conversation
            saved = saved.earlier


def _size(conversation: Conversation) -> int:
    pictures = set(conversation.images)
    pixels = sum(3 * picture.image.width * picture.image.height for picture in pictures)
    texts = sum(len(said) for message in conversation.messages for said in (message.text, _thought_of(message)))
    return pixels + 4 * texts + _MESSAGE_BYTES * (1 + len(conversation.messages))


def _thought_of(message: Message) -> str:
    return message.thought.text if message.thought else ""


class SessionStore:
    """Stores the sessions of visitors who may come back.

    Args:
        lifetime_s: how long each is held after it was last saved.
        max_bytes: of all together; the least recently saved are evicted first.
        now: tells the time in seconds.
    """

    def __init__(
        self, lifetime_s: float = LIFETIME_S, max_bytes: int = MAX_BYTES, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s, self.max_bytes, self._now = lifetime_s, max_bytes, now
        self._saved: OrderedDict[str, tuple[float, SavedSession]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._saved)

    @staticmethod
    def new_token() -> str:
        """A token that nobody can guess."""
        return secrets.token_urlsafe(24)

    def save(self, token: str, saved: SavedSession) -> None:
        """Store a session under a token, in place of what there was; an empty conversation is not stored."""
        with self._lock:
            self._saved.pop(token, None)
            if saved.conversation.messages and saved.size <= self.max_bytes:
                self._saved[token] = (self._now(), saved)
            self._evict()

    def get(self, token: str) -> SavedSession | None:
        """The session of a token; None where there is none (any more)."""
        with self._lock:
            self._evict()
            _, saved = self._saved.get(token, (0.0, None))
            return saved

    def _evict(self) -> None:
        oldest = self._now() - self.lifetime_s
        while self._saved:
            since, _ = next(iter(self._saved.values()))
            if since >= oldest and sum(saved.size for _, saved in self._saved.values()) <= self.max_bytes:
                return
            self._saved.popitem(last=False)


class BrowserState(BaseModel):
    """What a browser stores of its page, as JSON: enough to restore it, and the text in case the server was restarted.

    Attributes:
        token: of the conversation in the `SessionStore`.
        language: that the visitor chose; empty for the browser's own.
        messages: role, text and number of pictures of each message.
        thoughts: of the same messages; none at all where nothing was thought.
        chat: which of the browser's past chats it is.
        restore: the past chat to open if the browser has it: the server lost its pictures.
        account: the name of the visitor; empty where nobody has one.
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
        """The state for a conversation."""
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
        """From the browser's storage; an empty state where it is not valid."""
        try:
            state = cls.model_validate_json(stored or "{}")
        except ValidationError:
            return cls()
        roles = [role for role, _, _ in state.messages]
        return state if roles == ["user", "assistant"] * (len(roles) // 2) else cls()

    @property
    def text_only_chat(self) -> Chat:
        """For the text of a conversation whose pictures the server no longer has."""
        return Chat(text_of=self.restore or self.chat)

    def conversation(self, lost: str) -> Conversation:
        """The text, with `lost` in place of each picture."""
        messages = (
            Message(role, (*[lost] * min(pictures, _MAX_LOST), text))
            if role == "user"
            else Message(role, (text,), thought)
            for (role, text, pictures), thought in zip_longest(self.messages, self.thoughts[: len(self.messages)])
        )
        return Conversation(tuple(messages))
