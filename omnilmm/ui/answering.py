"""Answering a question on its own thread, so that a redraw of the page can neither end nor repeat it.

Answering(…) ── thread: Draft, Draft, … ──> `draft`, which the page polls
                                    └── at the end: `outcome`, and `notice` if there is no answer
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from omnilmm.errors import OmniLMMError
from omnilmm.ui.draft import Draft, State
from omnilmm.ui.session import Session

log = logging.getLogger("omnilmm.page")

FINALIZE_S = 10.0  # longest time that a stopped answer takes to end

Outcome = State | Literal["failed"]


def queue_refusal(session: Session, sessions: Iterable[Session], max_answers: int | None) -> str:
    """Return the refusal, in the visitor's language, if the limit of concurrent answers is reached; else empty.

    Args:
        session: the session that asks; it may ask while its own answer is running, which stops that answer.
        sessions: all sessions of the page.
        max_answers: how many answers may run or wait at once; None for no limit.
    """
    is_full = max_answers is not None and sum(other.busy for other in sessions) >= max_answers
    return session.texts.many_waiting.format(count=max_answers) if is_full and not session.busy else ""


class Answering:
    """A turn of a session that is being answered, and its outcome.

    Args:
        session: the session of the turn.
        drafts: returns the iterator of drafts: `Session.ask` or a similar method with its arguments.
        is_watched: whether the visitor is still there; if not, the answer is stopped. Called on the answering thread.
        restores_question: whether the question returns to the question box if there is no answer; a sample's does not.

    Attributes:
        draft: the newest draft; None before the first.
        outcome: "generating", then the state of the last draft, or "failed".
        notice: why there is no answer, in the visitor's language; empty if there is one.
        done: set once the outcome is final.
    """

    def __init__(
        self,
        session: Session,
        drafts: Callable[[], Iterator[Draft]],
        is_watched: Callable[[], bool] = lambda: True,
        *,
        restores_question: bool = True,
    ) -> None:
        self._session, self._drafts, self._is_watched, self._gives_back = session, drafts, is_watched, restores_question
        self.draft: Draft | None = None
        self.outcome: Outcome = "generating"
        self.notice = ""
        self.done = threading.Event()
        threading.Thread(target=self._run, name="answering", daemon=True).start()

    def _run(self) -> None:
        outcome: Outcome = "cancelled"
        try:
            for draft in self._drafts():
                self.draft, outcome = draft, draft.state
                if not self._is_watched():
                    self._session.stop()
            if not self._is_watched():  # what the model caches may have been freed before this answer had begun
                self._session.leave()
            if outcome == "cancelled":
                texts = self._session.texts
                self.notice = texts.withdrawn if self._gives_back else texts.stopped_early
        except OmniLMMError as error:
            log.info("A question was refused", exc_info=True)
            outcome, self.notice = "failed", self._session.texts.translate(error)
        except Exception:
            log.exception("A turn failed")
            outcome, self.notice = "failed", self._session.texts.failed
        finally:
            self.outcome = outcome
            self.done.set()
