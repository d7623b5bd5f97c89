"""`generate` runs while somebody asks for its next token, stands still between, and ends when nobody wants more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from transformers import StoppingCriteriaList

from omnilmm.engine.backends.stepwise import stepwise

made: list[int] = []


def generate(count: int, begin: tuple[int, ...] = (), fail_at: int | None = None) -> Callable[..., Tensor]:
    """As transformers' `generate` with two beams: ids after a prompt, asking after each whether to stop."""
    made.clear()

    def run(stopping: StoppingCriteriaList) -> Tensor:
        ids = torch.tensor([begin, begin], dtype=torch.long)
        for token in range(count):
            if token == fail_at:
                raise ZeroDivisionError
            made.append(token)
            ids = torch.cat([ids, torch.tensor([[token], [-1]])], dim=1)
            if all(criterion(ids, None).all() for criterion in stopping):
                break
        return ids

    return run


def test_the_best_row_comes_after_every_token_and_at_the_end() -> None:
    assert list(stepwise(generate(3))) == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert list(stepwise(generate(2, (7, 8)), begins=2)) == [[0], [0, 1], [0, 1]]


def test_no_token_is_made_that_nobody_asked_for() -> None:
    steps = stepwise(generate(9))
    for count in (1, 2, 3):
        next(steps)
        assert len(made) == count
    steps.close()  # type: ignore[attr-defined]
    assert len(made) == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "generate"]


def test_an_error_is_heard_where_the_token_was_asked_for() -> None:
    steps = stepwise(generate(9, fail_at=1))
    assert next(steps) == [0]
    with pytest.raises(ZeroDivisionError):
        next(steps)


@pytest.mark.parametrize("fail_at", [None, 2])
def test_its_surroundings_are_there_only_while_it_runs(fail_at: int | None) -> None:
    inside: list[int] = []

    @contextmanager
    def around() -> Iterator[None]:
        inside.append(len(made))
        yield
        inside.pop()

    run = generate(3, fail_at=fail_at)

    def watched(stopping: StoppingCriteriaList) -> Tensor:
        assert inside
        ids = run(stopping)
        assert inside
        return ids

    steps = stepwise(watched, around=around)
    try:
        for _ in steps:
            assert not inside
    except ZeroDivisionError:
        assert fail_at and not inside
