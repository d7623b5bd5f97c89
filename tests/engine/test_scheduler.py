"""The scheduler advances every answer a step in turn; answers are added and removed between two steps."""

from __future__ import annotations

import gc
import itertools
import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilmm.engine.scheduler import Job, Scheduler, is_on_model_thread
from omnilmm.errors import HardwareError
from tests.guarded import guarded
from tests.waiting import wait_until

PATIENCE_S = 60
ENDLESS = 10**12  # steps


class Steps:
    """Work of so many steps, each written down; it stands still while `go_on` is not set.

    Args:
        silent: it has output after so many steps.
    """

    def __init__(
        self, name: Hashable, steps: int, log: list[Hashable], go_on: threading.Event | None = None, silent: int = 0
    ) -> None:
        self.name, self.left, self.log, self.go_on, self.silent = name, steps, log, go_on, silent
        self.stepping, self.closed = threading.Event(), False

    @property
    def has_output(self) -> bool:
        return self.silent <= 0

    def step(self) -> bool:
        self.stepping.set()
        assert self.go_on is None or self.go_on.wait(PATIENCE_S)
        assert is_on_model_thread()
        self.log.append(self.name)
        self.left -= 1
        self.silent -= 1
        return self.left > 0

    def close(self) -> None:
        self.closed = True


@contextmanager
def held(scheduler: Scheduler, log: list[Hashable]) -> Iterator[None]:
    """Nobody takes a step before the block is left: a first answer stands still in its own."""
    go_on = threading.Event()
    blocker = Steps("blocker", 1, log, go_on)
    with scheduler.submit(blocker):
        assert blocker.stepping.wait(PATIENCE_S)
        yield
        go_on.set()


def run(scheduler: Scheduler, works: list[tuple[Hashable, Steps]]) -> None:
    """All that join while nobody takes a step, to their ends."""
    log = works[0][1].log
    with ExitStack() as stack:
        with held(scheduler, log):
            places = [stack.enter_context(scheduler.submit(work, owner)) for owner, work in works]
        for place in places:
            assert place.gone.wait(PATIENCE_S)
    log.remove("blocker")


def test_steps_are_taken_in_turn() -> None:
    log: list[Hashable] = []
    run(Scheduler(), [(None, Steps(name, steps, log)) for name, steps in (("a", 3), ("b", 1), ("c", 2))])
    assert log == ["a", "b", "c", "a", "c", "a"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 4))
def test_nobody_gets_two_steps_while_another_who_runs_waits_for_one(steps: list[int], at_once: int) -> None:
    log: list[Hashable] = []
    run(Scheduler(at_once + 1), [(None, Steps(number, count, log)) for number, count in enumerate(steps)])
    assert Counter(log) == dict(enumerate(steps))
    began = {name: log.index(name) for name in log}
    ended = {name: len(log) - 1 - log[::-1].index(name) for name in log}
    assert sorted(began, key=began.__getitem__) == sorted(began)  # first come, first served
    for name in began:
        own = [place for place, other in enumerate(log) if other == name]
        for before, after in itertools.pairwise(own):
            between = Counter(log[before + 1 : after])
            assert all(count == 1 for count in between.values())  # nobody twice
            assert all(
                other in between for other in began if other != name and began[other] < before and ended[other] > after
            )  # nobody left out


def test_between_two_tokens_comes_a_step_towards_somebodys_first() -> None:
    log: list[Hashable] = []
    works = [Steps("a", 3, log), Steps("b", 2, log), *(Steps(name, 3, log, silent=2) for name in ("new", "newer"))]
    run(Scheduler(), [(None, work) for work in works])
    assert log == ["new", "a", "newer", "b", "new", "newer", "a", "b", "new", "newer", "a"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=2, max_size=6))
def test_first_words_come_first_and_nobody_stands_still(works: list[tuple[int, int]]) -> None:
    log: list[Hashable] = []
    steps = [Steps(number, silent + said, log, silent=silent) for number, (silent, said) in enumerate(works)]
    run(Scheduler(), [(None, work) for work in steps])
    places = {name: [place for place, other in enumerate(log) if other == name] for name in range(len(works))}
    spoken = {place for name, its in places.items() for place in its[works[name][0] :]}
    assert len(log) == sum(silent + said for silent, said in works)
    for name, (silent, _) in enumerate(works):
        for place in range(places[name][silent - 1] if silent else 0):  # this one waits for its first word
            assert {place, place + 1} - spoken, "two steps of others who speak already"
    for its in places.values():
        for before, after in itertools.pairwise(place for place in its if place in spoken):
            between = Counter(log[place] for place in range(before + 1, after) if place in spoken)
            assert all(count == 1 for count in between.values()), "somebody speaks twice meanwhile"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=10))
def test_nobodys_second_answer_comes_before_everybodys_first(owners: list[str]) -> None:
    log: list[Hashable] = []
    run(Scheduler(1), [(owner, Steps((owner, number), 1, log)) for number, owner in enumerate(owners)])
    ranks = [Counter(owner for owner, _ in log[:place])[owner] for place, (owner, _) in enumerate(log)]
    assert ranks == sorted(ranks)
    for rank in set(ranks):
        asked = [number for (_, number), its in zip(log, ranks, strict=True) if its == rank]
        assert asked == sorted(asked)


def test_without_an_owner_everybody_is_somebody_else() -> None:
    log: list[Hashable] = []
    run(Scheduler(1), [(None, Steps(number, 1, log)) for number in range(4)])
    assert log == [0, 1, 2, 3]


def test_everybody_knows_how_many_have_to_finish_first() -> None:
    scheduler = Scheduler(at_once=1)
    log: list[Hashable] = []
    with ExitStack() as stack, held(scheduler, log):
        first, second, third = (
            stack.enter_context(scheduler.submit(Steps(0, 1, log), owner)) for owner in ("me", "me", "you")
        )
        assert [job.position() for job in (first, second, third)] == [1, 3, 2]
        assert scheduler.count == 4
    assert not scheduler.count


def test_a_job_for_which_no_thread_can_be_started_is_not_left_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    scheduler, log = Scheduler(at_once=1), []  # type: ignore[var-annotated]
    with monkeypatch.context() as threads:
        threads.setattr(scheduler._thread, "submit", fails)
        with pytest.raises(RuntimeError, match="new thread"):
            scheduler.submit(Steps("lost", 1, log)).__enter__()
    assert not scheduler.count
    run(scheduler, [(None, Steps("next", 1, log))])
    assert log == ["next"]


def test_what_is_asked_while_the_program_exits_is_refused_like_an_answer_that_ends() -> None:
    """By then Python has shut the pools of threads down."""
    scheduler, log = Scheduler(), []  # type: ignore[var-annotated]
    scheduler._thread.shutdown()
    with pytest.raises(HardwareError, match="without a word"):
        scheduler.submit(Steps("late", 1, log)).__enter__()
    assert not scheduler.count and log == []


def test_leaving_the_queue_moves_those_behind_up() -> None:
    scheduler = Scheduler(at_once=1)
    log: list[Hashable] = []
    with held(scheduler, log):
        with ExitStack() as middle:
            work = Steps("middle", 1, log)
            middle.enter_context(scheduler.submit(work))
            with scheduler.submit(Steps("last", 1, log)) as last:
                assert last.position() == 2
                middle.close()
                assert last.position() == 1
        assert scheduler.count == 1
    assert log == ["blocker"] and not work.closed  # what never began needs no end


def test_waiting_ends_as_soon_as_it_is_ones_turn() -> None:
    scheduler, log = Scheduler(at_once=1), []  # type: ignore[var-annotated]
    go_on = threading.Event()
    with scheduler.submit(Steps("first", 1, log, go_on)), scheduler.submit(Steps("second", 1, log)) as second:
        assert second.position(wait_s=0.01) == 1
        threading.Timer(0.1, go_on.set).start()
        assert second.position(wait_s=10**6) == 0
        assert second.position(wait_s=10**6) == 0, "nothing is left to wait for"


def test_leaving_ends_work_after_the_step_that_is_being_taken() -> None:
    scheduler, log, go_on = Scheduler(), [], threading.Event()  # type: ignore[var-annotated]
    work = Steps("stopped", 1000, log, go_on)
    with ExitStack() as stack:
        job = stack.enter_context(scheduler.submit(work))
        assert work.stepping.wait(PATIENCE_S)
        leaving = threading.Thread(target=stack.close)
        leaving.start()
        wait_until(lambda: job.leaving)
        leaving.join(0.1)
        assert leaving.is_alive() and not work.closed  # not in the midst of a step
        go_on.set()
        leaving.join(PATIENCE_S)
        assert work.closed and log == ["stopped"]


def test_who_leaves_need_not_wait_for_the_others_turns() -> None:
    scheduler, log, go_on = Scheduler(), [], threading.Event()  # type: ignore[var-annotated]
    slow = Steps("slow", 3, log, go_on)
    with scheduler.submit(slow):
        assert slow.stepping.wait(PATIENCE_S)
        with ExitStack() as stack:
            works = [Steps(number, ENDLESS, log) for number in range(3)]
            for work in works:
                stack.enter_context(scheduler.submit(work))
            threading.Timer(0.1, go_on.set).start()
        assert all(work.closed for work in works)


def test_who_runs_and_who_waits_changes_under_the_lock_alone() -> None:
    scheduler, log = Scheduler(at_once=1), []  # type: ignore[var-annotated]
    is_held = scheduler._changed._is_owned  # type: ignore[attr-defined]
    scheduler._waiting, of_waiting = guarded(scheduler._waiting, is_held)
    scheduler._running, of_running = guarded(scheduler._running, is_held)
    with held(scheduler, log), ExitStack() as stack:
        jobs = [stack.enter_context(scheduler.submit(Steps(number, 2, log), "me")) for number in range(3)]
        assert [job.position(wait_s=0.001) for job in jobs] == [1, 2, 3] and scheduler.count == 4
    run(scheduler, [(None, Steps(number, 2, log)) for number in range(3)])
    assert (of_waiting, of_running) == ([], [])


def test_one_worker_runs_the_steps_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would wait behind it, one more with every job."""
    scheduler, log, begun = Scheduler(), [], []  # type: ignore[var-annotated]
    submit = scheduler._thread.submit
    monkeypatch.setattr(scheduler._thread, "submit", lambda work: begun.append(work) or submit(work))
    run(scheduler, [(None, Steps(number, 2, log)) for number in range(3)])
    assert len(begun) == 1


class Broken(Steps):
    def step(self) -> bool:
        raise ZeroDivisionError

    def close(self) -> None:
        raise ZeroDivisionError


def test_broken_work_is_put_away_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    log: list[Hashable] = []
    scheduler = Scheduler()
    run(scheduler, [(None, Broken("broken", 1, log)), (None, Steps("whole", 2, log))])
    assert log == ["whole", "whole"] and not scheduler.count
    assert "could not be ended" in caplog.text


def test_work_that_is_collected_where_it_runs_does_not_wait_for_itself() -> None:
    """A forgotten stream may be found by any garbage collection, that of the working thread too."""
    scheduler, log = Scheduler(), []  # type: ignore[var-annotated]
    other = Steps("forgotten", ENDLESS, log)
    forgotten: list[Iterator[Job]] = []

    def stream() -> Iterator[Job]:
        with scheduler.submit(other) as job:
            yield job

    class Collecting(Steps):
        def step(self) -> bool:
            forgotten.clear()
            gc.collect()
            return super().step()

    forgotten.append(stream())
    job = next(forgotten[0])
    with scheduler.submit(Collecting("collecting", 1, log)) as collecting:
        assert collecting.gone.wait(PATIENCE_S) and job.gone.wait(PATIENCE_S)
    assert other.closed and not scheduler.count
