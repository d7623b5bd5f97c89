"""One question being answered on a thread of its own, so that no redrawing of a page can end or repeat it.

Answering(…) ── thread: Draft, Draft, … ──> `draft`; the page looks at it whenever it likes
                  └── at the end: `outcome`, and `notice` if nothing came of it
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from omnilmm.errors import OmniLMMError
from omnilmm.ui.session import Draft, Session, State

log = logging.getLogger("omnilmm.page")

PUT_AWAY_S = 10.0  # the longest that a stopped answer needs to be put away

Outcome = State | Literal["failed"]


class Answering:
    """A turn of a session while it is answered, and what came of it.

    Args:
        session: whose turn.
        drafts: gives the drafts: `Session.ask` or another of its kind, with its arguments.
        is_watched: whether anybody still looks; when nobody does, the answer is stopped. Called on the thread.
        gives_back: the question comes back into the box if nothing comes of it; that of a sample does not.

    Attributes:
        draft: the newest one; None before the first.
        outcome: "growing", then the state of the last draft, or "failed".
        notice: why there is no answer, in the visitor's language; empty where there is one.
        done: set once the outcome is there.
    """

    def __init__(
        self,
        session: Session,
        drafts: Callable[[], Iterator[Draft]],
        is_watched: Callable[[], bool] = lambda: True,
        *,
        gives_back: bool = True,
    ) -> None:
        self._session, self._drafts, self._is_watched, self._gives_back = session, drafts, is_watched, gives_back
        self.draft: Draft | None = None
        self.outcome: Outcome = "growing"
        self.notice = ""
        self.done = threading.Event()
        threading.Thread(target=self._run, name="answering", daemon=True).start()

    def _run(self) -> None:
        outcome: Outcome = "withdrawn"
        try:
            for draft in self._drafts():
                self.draft, outcome = draft, draft.state
                if not self._is_watched():
                    self._session.stop()
            if outcome == "withdrawn":
                texts = self._session.texts
                self.notice = texts.withdrawn if self._gives_back else texts.stopped_early
        except OmniLMMError as error:
            log.info("A question was refused", exc_info=True)
            outcome, self.notice = "failed", self._session.texts.told(error)
        except Exception:
            log.exception("A turn failed")
            outcome, self.notice = "failed", self._session.texts.failed
        finally:
            self.outcome = outcome
            self.done.set()
