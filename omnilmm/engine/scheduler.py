"""Whose turn it is: all answers advance together, one step of each after the other, on one thread.

    join() ── waits for a place ── runs: a step, then the others' steps, a step, … ── leaves

A step is short: a slice or two looked at, a part of the prompt read, one token. So nobody waits for somebody else's
whole answer, a newcomer joins and a Stop leaves between two steps. Each answer is computed by itself, as if it were
alone, so it is the same whoever else is there.

One thread, since a thread of its own for every answer costs more than half again per token: torch then keeps a pool of
workers for each, and they get in each other's way.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

AT_ONCE = 8
_inside = threading.local()

logger = logging.getLogger(__name__)


class Work(Protocol):
    """Something that is done in steps; both methods are called on the one thread, and handle their own errors."""

    def step(self) -> bool:
        """Do a little; returns whether there is more."""

    def close(self) -> None:
        """Nobody wants the rest."""


class Turn:
    """The place of one answer."""

    def __init__(self, turns: Turns, work: Work, owner: Hashable) -> None:
        self._turns, self.work = turns, work
        self.owner = self if owner is None else owner
        self.rank = 0  # how many answers the owner was already waiting for
        self.leaving = False
        self.gone = threading.Event()

    def ahead(self, wait_s: float = 0.0) -> int:
        """How many have to finish before this one begins; waits up to `wait_s` for that to change first."""
        return self._turns.ahead(self, wait_s)


class Turns:
    """Shares the model out.

    Args:
        at_once: answers that run together; the others wait, first come first served, but nobody's second answer
            before everybody's first.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._waiting: list[Turn] = []
        self._running: deque[Turn] = deque()
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._awake = False

    @property
    def count(self) -> int:
        """Answers that run or wait."""
        return len(self._running) + len(self._waiting)

    @contextmanager
    def join(self, work: Work, owner: Hashable = None) -> Iterator[Turn]:
        """A place, given up on leaving the block; the model is free of this work then.

        Args:
            work: what to do when it is this one's turn.
            owner: who asks; None for somebody who asks only once.
        """
        turn = Turn(self, work, owner)
        with self._changed:
            turn.rank = sum(other.owner == turn.owner for other in (*self._running, *self._waiting))
            self._waiting.append(turn)
            self._admit()
        try:
            yield turn
        finally:
            self._leave(turn)

    def ahead(self, turn: Turn, wait_s: float = 0.0) -> int:
        """See `Turn.ahead`."""
        with self._changed:
            ahead = self._ahead(turn)
            if wait_s and ahead:
                self._changed.wait_for(lambda: self._ahead(turn) < ahead, timeout=wait_s)
            return self._ahead(turn)

    def _ahead(self, turn: Turn) -> int:
        return self._in_order().index(turn) + 1 if turn in self._waiting else 0

    def _in_order(self) -> list[Turn]:
        """Those who wait: everybody's first before anybody's second, then as they came."""
        return sorted(self._waiting, key=lambda turn: turn.rank)

    def _admit(self) -> None:
        """Let in as many as there is room for, and see that somebody works; called with the lock held."""
        while self._waiting and len(self._running) < self.at_once:
            turn = self._in_order()[0]
            self._waiting.remove(turn)
            self._running.append(turn)
        self._changed.notify_all()
        if self._running and not self._awake:
            self._awake = True
            self._thread.submit(self._work)

    def _leave(self, turn: Turn) -> None:
        with self._changed:
            turn.leaving = True
            if turn in self._waiting:
                self._waiting.remove(turn)
                turn.gone.set()
                self._changed.notify_all()
        if not is_on_model_thread():  # a stream that is collected there cannot wait for itself
            turn.gone.wait()

    def _work(self) -> None:
        """Steps in turn, until there are none, or the program ends."""
        _inside.model = True
        while (turn := self._next()) is not None:
            goes_on = self._step(turn)
            with self._changed:
                self._running.remove(turn)
                if goes_on:
                    self._running.append(turn)
                else:
                    turn.gone.set()
                    self._admit()

    def _next(self) -> Turn | None:
        """Whose step it is: those who leave first, so that nobody waits for others to be let go."""
        with self._changed:
            if threading.main_thread().is_alive() and self._running:
                return next((turn for turn in self._running if turn.leaving), self._running[0])
            for turn in self._running:
                turn.gone.set()
            self._awake = False
            return None

    def _step(self, turn: Turn) -> bool:
        try:
            if not turn.leaving:
                return turn.work.step()
            turn.work.close()
        except Exception:
            logger.exception("An answer could not be ended")
        return False


def is_on_model_thread() -> bool:
    """Whether this is the thread that works, or one that works for it."""
    return getattr(_inside, "model", False)


def works_for_the_model() -> None:
    """To be called by a thread that the model's thread waits for."""
    _inside.model = True
