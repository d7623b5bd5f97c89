"""A loading that takes as long as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable

from omnilmm.engine.events import Engine

Report = Callable[[int, int], None]


class Gate:
    """A loading that goes on when the test says so."""

    def __init__(self, engine: Engine | None = None, error: Exception | None = None) -> None:
        self.engine, self.error = engine, error
        self.reported, self.open = threading.Event(), threading.Event()

    def load(self, report: Report) -> Engine:
        report(3, 12)
        self.reported.set()
        assert self.open.wait(30)
        if self.error:
            raise self.error
        assert self.engine is not None
        return self.engine
