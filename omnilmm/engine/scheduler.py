"""Schedules answers on the model: round-robin, one step of each running job at a time, on a single thread.

    submit() ── queued ── running: a step, then the others' steps, a step, … ── done

A step is short: it encodes one batch of slices, prefills one chunk of the prompt, or decodes one token. So no request
waits for another one's whole answer; jobs start and stop between two steps. After each decoded token the next step is
one of a job that has no output yet, if there is one: its visitor still waits, the other one reads. Answers are not
batched together: each is computed as if it were the only one, so its result does not depend on concurrent requests.

There is a single thread because a thread per answer makes each token more than 50 % slower: torch then keeps a worker
pool for each thread, and the pools compete for the cores.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from collections import deque
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from omnilmm.errors import HardwareError

AT_ONCE = 8
SWITCH_S = 0.001
_inside = threading.local()

logger = logging.getLogger(__name__)


class Work(Protocol):
    """Work done in steps; both methods are called on the model's thread and handle their own errors.

    Attributes:
        has_output: whether a step has generated something.
    """

    has_output: bool

    def step(self) -> bool:
        """Do one step; returns whether there are more."""

    def close(self) -> None:
        """Abandon the remaining steps and release all resources."""


class Job:
    """One answer, queued or running."""

    def __init__(self, scheduler: Scheduler, work: Work, owner: Hashable) -> None:
        self._scheduler, self.work = scheduler, work
        self.owner = self if owner is None else owner
        self.rank = 0  # number of the owner's jobs that were queued or running on submission
        self.leaving = False
        self.gone = threading.Event()

    def position(self, wait_s: float = 0.0) -> int:
        """Return the position in the queue, 0 once running; waits up to `wait_s` seconds for it to decrease first."""
        return self._scheduler.position(self, wait_s)


class Scheduler:
    """Runs jobs concurrently on one thread.

    Args:
        at_once: maximum number of concurrent jobs; further ones are queued first come, first served, except that an
            owner's second job comes after the first jobs of all owners.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._waiting: list[Job] = []
        self._running: deque[Job] = deque()
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._awake = False
        self._after_output = False  # whether the latest step was one of a job with output

    @property
    def count(self) -> int:
        """The number of jobs running or queued."""
        with self._changed:  # a job is in neither list for a moment after each of its steps
            return len(self._running) + len(self._waiting)

    @contextmanager
    def submit(self, work: Work, owner: Hashable = None) -> Iterator[Job]:
        """Queue a job; it is ended on leaving the block, after which the model no longer works on it.

        Args:
            work: the work to do.
            owner: the key of the requesting user; None makes the job an owner of its own.

        Raises:
            HardwareError: The program is exiting.
        """
        job = Job(self, work, owner)
        with self._changed:
            job.rank = sum(other.owner == job.owner for other in (*self._running, *self._waiting))
            self._waiting.append(job)
            try:
                self._admit()
            except BaseException:  # no thread could be started, or the program exits
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
            if position:
                self._changed.wait_for(lambda: self._position(job) < position, timeout=wait_s)
            return self._position(job)

    def _position(self, job: Job) -> int:
        return self._in_order().index(job) + 1 if job in self._waiting else 0

    def _in_order(self) -> list[Job]:
        """Return the queued jobs: each owner's first job before any owner's second, then in order of arrival."""
        return sorted(self._waiting, key=lambda job: job.rank)

    def _admit(self) -> None:
        """Start as many queued jobs as allowed, and the worker if it is idle; called with the lock held."""
        while self._waiting and len(self._running) < self.at_once:
            job = self._in_order()[0]
            self._waiting.remove(job)
            self._running.append(job)
        self._changed.notify_all()
        if self._running and not self._awake:
            try:
                self._thread.submit(self._work)
            except RuntimeError as error:
                if "shutdown" not in str(error):  # no thread could be started
                    raise
                raise HardwareError("answer_lost") from error
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
        if not is_on_model_thread():  # a stream garbage-collected on that thread would wait for itself
            job.gone.wait()

    def _work(self) -> None:
        """Run steps round-robin until no job is left or the program exits."""
        _inside.model = True
        while (job := self._next()) is not None:
            has_more = self._step(job)
            with self._changed:
                self._after_output = job.work.has_output
                self._running.remove(job)
                if has_more:
                    self._running.append(job)
                else:
                    job.gone.set()
                    self._admit()

    def _next(self) -> Job | None:
        """Return the job whose step is next: a leaving one first, so that stopping does not wait for other jobs.

        After a step of a job with output comes one without; else they take turns.
        """
        with self._changed:
            if threading.main_thread().is_alive() and self._running:
                leaving = (job for job in self._running if job.leaving)
                silent = (job for job in self._running if self._after_output and not job.work.has_output)
                return next(itertools.chain(leaving, silent, self._running))
            for job in self._running:
                job.gone.set()
            self._awake = False
            return None

    def _step(self, job: Job) -> bool:
        try:
            if not job.leaving:
                return job.work.step()
            job.work.close()
        except BaseException:  # no failure may stop the other jobs
            logger.exception("An answer could not be ended")
        return False


def is_on_model_thread() -> bool:
    """Return whether the caller runs on the model's thread, or on one that works on its behalf."""
    return getattr(_inside, "model", False)


def mark_model_thread() -> None:
    """Mark the calling thread as working on behalf of the model's thread, which waits for it."""
    _inside.model = True


def shorten_switch_interval() -> None:
    """Shorten how long the model's thread waits for Python's lock while a thread of the server holds it.

    Each operation of a model takes the lock anew, and waits up to 5 ms for it by default. This holds for the whole
    process from then on.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
