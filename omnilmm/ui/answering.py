"""One question being answered on a thread of its own, so that no redrawing of a page can end or repeat it.

Answering(…) ── thread: Draft, Draft, … ──> `draft`; the page looks at it whenever it likes
                  └── at the end: `outcome`, and `notice` if nothing came of it
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from omnilmm.errors import OmniLMMError
from omnilmm.ui.session import Draft, Session, State

log = logging.getLogger("omnilmm.page")

FINALIZE_S = 10.0  # the longest that a stopped answer needs to end

Outcome = State | Literal["failed"]


def queue_refusal(session: Session, sessions: Iterable[Session], max_answers: int | None) -> str:
    """Why a session cannot ask now, in the visitor's language, where as many are answered as may be; else empty.

    Args:
        session: whose question; it may ask while it is answered, which stops that answer.
        sessions: all of the page.
        max_answers: how many may be answered or wait at once; None for as many as come.
    """
    is_full = max_answers is not None and sum(other.busy for other in sessions) >= max_answers
    return session.texts.many_waiting.format(count=max_answers) if is_full and not session.busy else ""


class Answering:
    """A turn of a session while it is answered, and what came of it.

    Args:
        session: whose turn.
        drafts: gives the drafts: `Session.ask` or another of its kind, with its arguments.
        is_watched: whether anybody still looks; when nobody does, the answer is stopped. Called on the thread.
        restores_question: the question comes back into the box if nothing comes of it; that of a sample does not.

    Attributes:
        draft: the newest one; None before the first.
        outcome: "generating", then the state of the last draft, or "failed".
        notice: why there is no answer, in the visitor's language; empty where there is one.
        done: set once the outcome is there.
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
