"""Who is in front of the page: each open tab with its session, and what is stored for those who reload it.

tab --(a random token in its sessionStorage)--> SessionStore: the conversation, for half an hour after it was last seen
    --(the text, in its sessionStorage too)---> back after a restart of the server, without pictures
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Video
from omnilmm.ui.answering import FINALIZE_S, Answering
from omnilmm.ui.session import Session
from omnilmm.ui.session_store import BrowserState, SessionStore
from omnilmm.versions import VideoSampling

MOST_GONE = 10_000  # closed tabs that are remembered
MOST_VIDEOS = 4  # of a visitor's uploads whose frames are kept

Question = dict[str, Any]  # the value of the question box: "text" and "files"


class OpenedVideos:
    """Frames of the newest uploads that are videos, so that asking about one does not decode it again.

    Attributes:
        lock: held while one is decoded; who asks meanwhile waits for it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._videos: OrderedDict[str, tuple[VideoSampling | None, Video]] = OrderedDict()

    def get(self, path: str, sampling: VideoSampling) -> Video | None:
        """The video of a file, if it was opened for such a model, or comes from the conversation."""
        of, video = self._videos.get(path, (sampling, None))
        return video if of in (sampling, None) else None

    def put(self, path: str, sampling: VideoSampling | None, video: Video) -> None:
        """Keep one.

        Args:
            path: of its file.
            sampling: for which it was opened; None for a video of the conversation, of whose file nothing is left.
            video: its frames.
        """
        self._videos[path] = sampling, video
        while len(self._videos) > MOST_VIDEOS:
            self._videos.popitem(last=False)


@dataclass
class Visitor:
    """One open tab.

    Attributes:
        session: its conversation.
        user: who signed in; empty where nobody has to.
        token: that its browser stores.
        owner: whose uploads are its own; of nobody's until the browser says who it is.
        answering: the newest turn.
        stashed: what was in the question box when an earlier question came into it to be edited.
        camera: whether it is open.
        model, card: what it was last shown of the model: its state, and its card.
        max_slices: of a picture, as it is set on the page; None for the model's own.
        is_restored: set once what it had before a reload is restored.
        videos: of its uploads in the question box.
    """

    session: Session = field(default_factory=Session)
    user: str = ""
    token: str = field(default_factory=SessionStore.new_token)
    owner: str = field(default_factory=lambda: secrets.token_hex(16))
    answering: Answering | None = None
    stashed: Question | None = None
    camera: bool = False
    model: tuple[int, bool] = (-1, False)
    card: ModelCard | None = None
    max_slices: int | None = None
    is_restored: threading.Event = field(default_factory=threading.Event)
    videos: OpenedVideos = field(default_factory=OpenedVideos)

    @property
    def key(self) -> str:
        """Under which its session is stored: of no use to anybody who signed in under another name."""
        return f"{self.user}/{self.token}"

    def browser_state(self) -> str:
        """What its browser should store: the token, and the conversation without pictures."""
        saved = self.session.snapshot
        return BrowserState.of(self.token, "", saved.conversation, saved.chat, self.user).model_dump_json()


def _closed() -> Session:
    session = Session()
    session.close()
    return session


class Visitors:
    """The open tabs by Gradio's key for them, and the conversations of those that may come back."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.had_visitors = False  # whether anybody ever came
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()
        self._present: Counter[str] = Counter()  # heartbeats by tab
        self._gone: OrderedDict[str, None] = OrderedDict()  # tabs that were closed last

    def __len__(self) -> int:
        return len(self._visitors)

    def __iter__(self) -> Iterator[Visitor]:
        return iter(list(self._visitors.values()))

    def get(self, key: str) -> Visitor:
        """The visitor in a tab, a new one at first.

        What a closed tab asked for last may be answered only when it has gone: nobody comes back by that.
        """
        self.had_visitors = True
        with self._lock:
            if key in self._gone:
                return Visitor(session=_closed())
            return self._visitors.setdefault(key, Visitor())

    @property
    def sessions(self) -> list[Session]:
        """Of all open tabs."""
        return [visitor.session for visitor in self]

    @contextmanager
    def present(self, key: str) -> Iterator[None]:
        """While a tab holds its connection; it may open a new one before the old one is missed."""
        with self._lock:
            self._gone.pop(key, None)
            self._present[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._present[key] -= 1
                self._present += Counter()  # those that are 0 go

    def save(self, visitor: Visitor) -> None:
        """Store the session of a visitor as it is now."""
        self.store.save(visitor.key, visitor.session.snapshot)

    def close(self, key: str) -> None:
        """The tab was closed, or reloaded: its answer is stopped and what there is of it saved."""
        if self._present[key] > 1:
            return  # it has a new connection
        if visitor := self._visitors.get(key):
            self._finalize(visitor)  # only then it is gone: the reloaded page waits for it
        with self._lock:
            self._visitors.pop(key, None)
            self._gone[key] = None
            while len(self._gone) > MOST_GONE:
                self._gone.popitem(last=False)

    def has(self, owner: str) -> bool:
        """Whether somebody with these uploads is still there."""
        return any(visitor.owner == owner for visitor in self)

    def restore(self, visitor: Visitor, browser_state: str) -> str:
        """Restore what the browser of a visitor has stored; a notice where that is not all there was."""
        try:
            return self._restore(visitor, browser_state)
        finally:
            visitor.is_restored.set()

    def _restore(self, visitor: Visitor, browser_state: str) -> str:
        if visitor.session.busy or visitor.session.conversation.messages:
            return ""
        remembered = BrowserState.read(browser_state)
        visitor.token = remembered.token or visitor.token
        for other in self:  # the server may not have noticed yet that the page was reloaded
            if other is not visitor and other.key == visitor.key:
                self._finalize(other, closes=False)
        if saved := self.store.get(visitor.key):
            visitor.session.load(saved.conversation, saved.notes, saved.chat, saved.earlier)
            return ""
        conversation = remembered.conversation(visitor.session.texts.picture_lost)
        if not conversation.messages:
            return ""
        visitor.session.load(conversation, chat=remembered.text_only_chat)
        return visitor.session.texts.restored_text

    def _finalize(self, visitor: Visitor, *, closes: bool = True) -> None:
        visitor.session.stop()
        if visitor.answering is not None:
            visitor.answering.done.wait(FINALIZE_S)
        if visitor.session.conversation.messages:
            self.save(visitor)
        if closes:
            visitor.session.close()
