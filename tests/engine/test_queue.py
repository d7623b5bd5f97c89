"""First come, first served; whoever leaves, from wherever, lets the others move up."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from omnilmm.engine.queue import WaitingLine


def test_everybody_knows_how_many_are_ahead() -> None:
    line = WaitingLine()
    with line.place() as first, line.place() as second, line.place() as third:
        assert [line.ahead(ticket) for ticket in (first, second, third)] == [0, 1, 2]


def test_leaving_from_the_middle_moves_those_behind_up() -> None:
    line = WaitingLine()
    with line.place() as first, ExitStack() as middle:
        second = middle.enter_context(line.place())
        with line.place() as third:
            assert (line.ahead(second), line.ahead(third)) == (1, 2)
            middle.close()
            assert (line.ahead(first), line.ahead(third)) == (0, 1)


def test_a_new_one_goes_to_the_end_although_somebody_left() -> None:
    line = WaitingLine()
    with line.place() as first:
        with line.place():
            pass
        with line.place() as third:
            assert (line.ahead(first), line.ahead(third)) == (0, 1)


def test_an_error_gives_the_place_up() -> None:
    line = WaitingLine()
    try:
        with line.place():
            raise RuntimeError
    except RuntimeError:
        pass
    with line.place() as ticket:
        assert line.ahead(ticket) == 0


def test_waiting_ends_as_soon_as_somebody_ahead_leaves() -> None:
    line, front = WaitingLine(), ExitStack()
    front.enter_context(line.place())
    with line.place() as behind:
        threading.Timer(0.1, front.close).start()
        began = time.monotonic()
        assert line.ahead(behind, wait_s=30) == 0
        assert time.monotonic() - began < 10


def test_waiting_gives_up_after_its_time() -> None:
    line = WaitingLine()
    with line.place(), line.place() as second:
        assert line.ahead(second, wait_s=0.01) == 1


def test_who_is_first_does_not_wait() -> None:
    line = WaitingLine()
    with line.place() as first:
        began = time.monotonic()
        assert line.ahead(first, wait_s=30) == 0
        assert time.monotonic() - began < 10


def test_turns_come_in_the_order_of_asking_whatever_the_threads() -> None:
    line = WaitingLine()
    served: list[int] = []
    at_once: list[int] = []

    def visit(number: int) -> None:
        with line.place() as ticket:
            arrived.set()
            while line.ahead(ticket, wait_s=30):
                pass
            at_once.append(number)
            time.sleep(0.01)
            assert at_once == [number]
            served.append(at_once.pop())

    threads = []
    for number in range(6):
        arrived = threading.Event()
        threads.append(threading.Thread(target=visit, args=(number,)))
        threads[-1].start()
        assert arrived.wait(30)
    for thread in threads:
        thread.join(30)
    assert served == list(range(6))
