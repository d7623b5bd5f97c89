"""Stands in for the `spaces` package of ZeroGPU: each call of a decorated generator runs in a forked process.

As there: arguments and results are pickled, an exception comes across as an error that has a `message`, and closing
the generator stops the process between two results.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Generator
from typing import Any

pids: list[int] = []  # of the processes that were forked
_forks = multiprocessing.get_context("fork")


class RefusedError(Exception):
    """As `gradio.Error`."""

    def __init__(self, message: str) -> None:
        self.message = message


def GPU(task: Callable[..., Any] | None = None, *, duration: int | None = None) -> Any:
    if task is None:
        return lambda task: GPU(task, duration=duration)

    def lent(*arguments: Any) -> Generator[Any]:
        ours, theirs = _forks.Pipe()
        process = _forks.Process(target=_work, args=(task, pickle.dumps(arguments), theirs, ours), daemon=True)
        process.start()
        theirs.close()
        pids.append(process.pid or 0)
        try:
            while True:
                kind, value = ours.recv()
                if kind == "end":
                    return
                if kind == "error":
                    raise RefusedError(value)
                yield value
                ours.send("go on")
        except EOFError:
            raise RefusedError("GPU task aborted") from None
        finally:
            ours.close()
            process.join()

    return lent


def _work(task: Callable[..., Any], arguments: bytes, pipe: Any, inherited: Any) -> None:
    inherited.close()  # else this process would keep its own pipe open
    try:
        for value in task(*pickle.loads(arguments)):  # noqa: S301
            pipe.send(("value", value))
            pipe.recv()
        pipe.send(("end", None))
    except (EOFError, OSError):
        pass  # closed
    except Exception as error:
        pipe.send(("error", type(error).__name__))
