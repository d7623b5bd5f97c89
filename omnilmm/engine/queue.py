"""Whose turn it is: answers are given one after the other, in the order in which they were asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Ticket:
    """A place in the queue."""


class WaitingLine:
    """First come, first served. Leaving is possible at any time, from any thread."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._changed = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[Ticket]:
        """A place at the end, given up on leaving the block."""
        ticket = Ticket()
        with self._changed:
            self._tickets.append(ticket)
        try:
            yield ticket
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._changed.notify_all()

    def ahead(self, ticket: Ticket, wait_s: float = 0.0) -> int:
        """How many are ahead; waits up to `wait_s` for that to change first."""
        with self._changed:
            ahead = self._tickets.index(ticket)
            if wait_s and ahead:
                self._changed.wait_for(lambda: self._tickets.index(ticket) < ahead, timeout=wait_s)
            return self._tickets.index(ticket)
