"""Visitors of the Gradio page: each open tab with its session, and what is stored for a reload.

tab --(random token in its sessionStorage)--> SessionStore: the conversation, for half an hour after it was last seen
    --(text, also in its sessionStorage)----> restored after a restart of the server, without pictures
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
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
MOST_VIDEOS = 4  # uploads per visitor whose frames are cached

Question = dict[str, Any]  # the value of the question box: "text" and "files"


class OpenedVideos:
    """Cache of the frames of the newest uploaded videos, so that a question about one does not decode it again.

    Attributes:
        lock: held while a video is decoded, so that other requests for it wait.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._videos: OrderedDict[str, tuple[VideoSampling | None, Video]] = OrderedDict()

    def get(self, path: str, sampling: VideoSampling) -> Video | None:
        """Return the video of a file, if it was opened with this sampling or comes from the conversation."""
        of, video = self._videos.get(path, (sampling, None))
        return video if of in (sampling, None) else None

    def put(self, path: str, sampling: VideoSampling | None, video: Video) -> None:
        """Cache a video.

        Args:
            path: the path of its file.
            sampling: the sampling it was opened with; None for a video of the conversation, whose file is deleted.
            video: the video with its frames.
        """
        self._videos[path] = sampling, video
        while len(self._videos) > MOST_VIDEOS:
            self._videos.popitem(last=False)


@dataclass
class Visitor:
    """One open tab.

    Attributes:
        session: its conversation.
        user: the signed-in account; empty where no login is required.
        token: key of the stored session, kept by the browser.
        owner: identifies its uploads; it has none until the browser identifies itself.
        answering: the newest turn.
        stashed: content of the question box before an earlier question was put into it for editing.
        camera: whether the camera is open.
        model, card: the state and the card of the model that were last rendered.
        max_slices: limit per picture as set on the page; None for the model's default.
        finer_detail: whether finer detail is set on the page.
        is_restored: set once its state from before a reload is restored, or it has another conversation. Until then the
            page may show one that the server does not know: one of before the reload, or of before the server's start.
        videos: cache of its uploaded videos in the question box.
        closed_stream: number of the stream of events that the server has closed last.
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
    finer_detail: bool = False
    is_restored: threading.Event = field(default_factory=threading.Event)
    videos: OpenedVideos = field(default_factory=OpenedVideos)
    closed_stream: int = 0

    @property
    def key(self) -> str:
        """The key of its stored session: useless to anybody who is signed in under another name."""
        return f"{self.user}/{self.token}"

    def forget_detail(self) -> None:
        """Look at pictures with the model's default number of slices and detail again."""
        self.max_slices, self.finer_detail = None, False

    def browser_state(self) -> str:
        """Return what the browser should store: the token, and the conversation without pictures."""
        saved = self.session.snapshot
        return BrowserState.of(self.token, "", saved.conversation, saved.chat, self.user).model_dump_json()


def _closed() -> Session:
    session = Session()
    session.close()
    return session


class Visitors:
    """The open tabs by Gradio's session hash, and the stored sessions of visitors who may come back.

    Args:
        store: the stored sessions.
        forget: drops what Gradio itself keeps of a tab.
    """

    def __init__(self, store: SessionStore, forget: Callable[[str], object] = lambda key: None) -> None:
        self.store, self._forget = store, forget
        self.had_visitors = False  # whether anybody ever opened the page
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()
        self._present: Counter[str] = Counter()  # heartbeat connections per tab
        self._gone: OrderedDict[str, None] = OrderedDict()  # recently closed tabs

    def __len__(self) -> int:
        return len(self._visitors)

    def __iter__(self) -> Iterator[Visitor]:
        return iter(list(self._visitors.values()))

    def get(self, key: str) -> Visitor:
        """Return the visitor in a tab, creating one at first.

        The last request of a closed tab may be handled only after it has gone; that does not bring the visitor back.
        """
        self.had_visitors = True
        with self._lock:
            if key in self._gone:
                self._forget(key)
                return Visitor(session=_closed())
            return self._visitors.setdefault(key, Visitor())

    @property
    def sessions(self) -> list[Session]:
        """Return the sessions of all open tabs."""
        return [visitor.session for visitor in self]

    @contextmanager
    def present(self, key: str) -> Iterator[None]:
        """Mark a tab as present while connected; it may reconnect before the old connection is noticed as lost."""
        with self._lock:
            self._gone.pop(key, None)
            self._present[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._present[key] -= 1
                self._present += Counter()  # removes counts of 0

    def save(self, visitor: Visitor) -> None:
        """Store the session of a visitor as it is now, which is the one that the page shows from here on."""
        self.store.save(visitor.key, visitor.session.snapshot)
        visitor.is_restored.set()

    def close(self, key: str) -> Visitor | None:
        """Handle a closed or reloaded tab: stop its answer and save what there is of it.

        Returns:
            Who has left; None if there was nobody, or if the tab is connected, which stays then.
        """
        with self._lock:
            if self._present[key]:
                return None
            visitor = self._visitors.get(key)
        if visitor:
            self._finalize(visitor)  # removed only afterwards: the reloaded page waits for it
        with self._lock:
            if self._present[key]:
                return None  # it has reconnected while its answer came to an end
            visitor = self._visitors.pop(key, None)
            self._gone[key] = None
            while len(self._gone) > MOST_GONE:
                self._gone.popitem(last=False)
        if visitor:
            visitor.session.close()
        return visitor

    def has(self, owner: str) -> bool:
        """Return whether a visitor with these uploads is still present."""
        return any(visitor.owner == owner for visitor in self)

    def restore(self, visitor: Visitor, browser_state: str) -> str:
        """Restore what the visitor's browser has stored; returns a notice if something is missing."""
        try:
            return self._restore(visitor, browser_state)
        finally:
            visitor.is_restored.set()

    def _restore(self, visitor: Visitor, browser_state: str) -> str:
        if visitor.session.busy or visitor.session.conversation.messages:
            return ""
        remembered = BrowserState.read(browser_state)
        visitor.token = remembered.token or visitor.token
        for other in self:  # the server may not have noticed the reload yet
            if other is not visitor and other.key == visitor.key:
                self._finalize(other)
        if saved := self.store.get(visitor.key):
            visitor.session.load(saved.conversation, saved.notes, saved.chat, saved.earlier)
            return ""
        conversation = remembered.conversation(visitor.session.texts.picture_lost)
        if not conversation.messages:
            return ""
        visitor.session.load(conversation, chat=remembered.text_only_chat)
        return visitor.session.texts.restored_text

    def _finalize(self, visitor: Visitor) -> None:
        visitor.session.stop()
        if visitor.answering is not None:
            visitor.answering.done.wait(FINALIZE_S)
        if visitor.session.conversation.messages:
            self.save(visitor)
