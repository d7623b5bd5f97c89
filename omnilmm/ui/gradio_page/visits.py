"""Who is in front of the page: each open tab with its session, and what is kept for those who load it anew.

tab --(a random token in its sessionStorage)--> Keeper: the conversation, for half an hour after it was last seen
    --(the text, in its sessionStorage too)---> back after the server was started anew, without pictures
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.ui.answering import PUT_AWAY_S, Answering
from omnilmm.ui.session import Session
from omnilmm.ui.session_store import Keeper, Memory

Question = dict[str, Any]  # the value of the question box: "text" and "files"


@dataclass
class Visit:
    """One open tab.

    Attributes:
        session: its conversation.
        user: who signed in; empty where nobody has to.
        token: that its browser keeps.
        answering: the newest turn.
        aside: what was in the question box when an earlier question came into it to be edited.
        camera: whether it is open.
        model, card: what it was last shown of the model: its state, and its card.
        is_back: set once it has taken up what it had before it was loaded anew.
    """

    session: Session = field(default_factory=Session)
    user: str = ""
    token: str = field(default_factory=Keeper.new_token)
    answering: Answering | None = None
    aside: Question | None = None
    camera: bool = False
    model: tuple[int, bool] = (-1, False)
    card: ModelCard | None = None
    is_back: threading.Event = field(default_factory=threading.Event)

    @property
    def key(self) -> str:
        """Under which its conversation is kept: of no use to anybody who signed in under another name."""
        return f"{self.user}/{self.token}"

    def memory(self) -> str:
        """What its browser should keep: the token, and the conversation without pictures."""
        kept = self.session.kept
        return Memory.of(self.token, "", kept.conversation, kept.chat, self.user).model_dump_json()


class Visits:
    """The open tabs by Gradio's key for them, and the conversations of those that may come back."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.were_any = False  # whether anybody ever came
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._visits)

    def __iter__(self) -> Iterator[Visit]:
        return iter(list(self._visits.values()))

    def of(self, key: str) -> Visit:
        """The visit of a tab, a new one at first."""
        self.were_any = True
        with self._lock:
            return self._visits.setdefault(key, Visit())

    def busy(self) -> int:
        """How many answers are given or waited for."""
        return sum(visit.session.busy for visit in self)

    def keep(self, visit: Visit) -> None:
        """Keep the conversation of a visit as it is now."""
        self.keeper.keep(visit.key, visit.session.kept)

    def close(self, key: str) -> None:
        """The tab was closed, or loaded anew: its answer is stopped and what there is of it kept."""
        if visit := self._visits.get(key):
            self._put_away(visit)  # only then it is gone: the page that is loaded anew waits for it
            with self._lock:
                self._visits.pop(key, None)

    def come_back(self, visit: Visit, memory: str) -> str:
        """Take up what the browser of a visit remembers; a notice where that is not all there was."""
        try:
            return self._come_back(visit, memory)
        finally:
            visit.is_back.set()

    def _come_back(self, visit: Visit, memory: str) -> str:
        if visit.session.busy or visit.session.conversation.messages:
            return ""
        remembered = Memory.read(memory)
        visit.token = remembered.token or visit.token
        for other in self:  # the server may not have noticed yet that the page is loaded anew
            if other is not visit and other.key == visit.key:
                self._put_away(other, closes=False)
        if kept := self.keeper.get(visit.key):
            visit.session.take_up(kept.conversation, kept.notes, kept.chat, kept.earlier)
            return ""
        conversation = remembered.conversation(visit.session.texts.picture_lost)
        if not conversation.messages:
            return ""
        visit.session.take_up(conversation, chat=remembered.lost_chat)
        return visit.session.texts.restored_text

    def _put_away(self, visit: Visit, *, closes: bool = True) -> None:
        visit.session.stop()
        if visit.answering is not None:
            visit.answering.done.wait(PUT_AWAY_S)
        if visit.session.conversation.messages:
            self.keep(visit)
        if closes:
            visit.session.close()
