"""Schedules answers on the one model: round-robin, one step of each running job after the other, on one thread.

    submit() ── queued ── running: a step, then the others' steps, a step, … ── done

A step is short: a batch of slices encoded, a chunk of the prompt prefilled, one token decoded. So nobody waits for
somebody else's whole answer; a new job starts and a stopped one ends between two steps. Each answer is computed by
itself, as if it were alone, so it is the same whoever else is there.

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


class Job:
    """One answer in the queue or running."""

    def __init__(self, scheduler: Scheduler, work: Work, owner: Hashable) -> None:
        self._scheduler, self.work = scheduler, work
        self.owner = self if owner is None else owner
        self.rank = 0  # how many answers the owner was already waiting for
        self.leaving = False
        self.gone = threading.Event()

    def position(self, wait_s: float = 0.0) -> int:
        """How many have to finish before this one begins; waits up to `wait_s` for that to change first."""
        return self._scheduler.position(self, wait_s)


class Scheduler:
    """Runs jobs concurrently on one thread.

    Args:
        at_once: jobs that run concurrently; the others are queued, first come first served, but nobody's second answer
            before everybody's first.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._waiting: list[Job] = []
        self._running: deque[Job] = deque()
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._awake = False

    @property
    def count(self) -> int:
        """Answers that run or wait."""
        return len(self._running) + len(self._waiting)

    @contextmanager
    def submit(self, work: Work, owner: Hashable = None) -> Iterator[Job]:
        """A job, ended on leaving the block; the model is free of its work then.

        Args:
            work: what to do in its steps.
            owner: who asks; None for somebody who asks only once.
        """
        job = Job(self, work, owner)
        with self._changed:
            job.rank = sum(other.owner == job.owner for other in (*self._running, *self._waiting))
            self._waiting.append(job)
            try:
                self._admit()
            except BaseException:  # no thread could be started
                self._remove(job)
                raise
        try:
            yield job
        finally:
            self._leave(job)

    def position(self, job: Job, wait_s: float = 0.0) -> int:
        """See `Job.position`."""
        with self._changed:
            position = self._position(job)
            if wait_s and position:
                self._changed.wait_for(lambda: self._position(job) < position, timeout=wait_s)
            return self._position(job)

    def _position(self, job: Job) -> int:
        return self._in_order().index(job) + 1 if job in self._waiting else 0

    def _in_order(self) -> list[Job]:
        """Those who wait: everybody's first before anybody's second, then as they came."""
        return sorted(self._waiting, key=lambda job: job.rank)

    def _admit(self) -> None:
        """Let in as many as there is room for, and see that somebody works; called with the lock held."""
        while self._waiting and len(self._running) < self.at_once:
            job = self._in_order()[0]
            self._waiting.remove(job)
            self._running.append(job)
        self._changed.notify_all()
        if self._running and not self._awake:
            self._thread.submit(self._work)
            self._awake = True

    def _remove(self, job: Job) -> None:
        for jobs in (self._waiting, self._running):
            if job in jobs:
                jobs.remove(job)
        job.gone.set()

    def _leave(self, job: Job) -> None:
        with self._changed:
            job.leaving = True
            if job in self._waiting:
                self._waiting.remove(job)
                job.gone.set()
                self._changed.notify_all()
        if not is_on_model_thread():  # a stream that is collected there cannot wait for itself
            job.gone.wait()

    def _work(self) -> None:
        """Steps in turn, until there are none, or the program ends."""
        _inside.model = True
        while (job := self._next()) is not None:
            goes_on = self._step(job)
            with self._changed:
                self._running.remove(job)
                if goes_on:
                    self._running.append(job)
                else:
                    job.gone.set()
                    self._admit()

    def _next(self) -> Job | None:
        """Whose step it is: those who leave first, so that nobody waits for others to be let go."""
        with self._changed:
            if threading.main_thread().is_alive() and self._running:
                return next((job for job in self._running if job.leaving), self._running[0])
            for job in self._running:
                job.gone.set()
            self._awake = False
            return None

    def _step(self, job: Job) -> bool:
        try:
            if not job.leaving:
                return job.work.step()
            job.work.close()
        except BaseException:  # whatever it is, the others go on
            logger.exception("An answer could not be ended")
        return False


def is_on_model_thread() -> bool:
    """Whether this is the thread that works, or one that works for it."""
    return getattr(_inside, "model", False)


def mark_model_thread() -> None:
    """To be called by a thread that the model's thread waits for."""
    _inside.model = True
