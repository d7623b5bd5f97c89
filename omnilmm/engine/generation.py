"""One answer as a unit of work: its steps run on the model's thread, its results are consumed on the caller's."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

import torch

from omnilmm.engine.backends.base import Backend, Request, Step
from omnilmm.engine.events import HEARTBEAT_S, Progress
from omnilmm.engine.options import BeamSearch, Greedy, Options
from omnilmm.errors import HardwareError
from omnilmm.hardware import is_out_of_memory

# After the first token, tokens of this period are delivered together: waking the consumer for each token costs a small
# model a fifth of its speed.
GATHER_S = 0.02


class Generation:
    """An answer being generated; implements `scheduler.Work`.

    Args:
        backend: the model's backend.
        request: the request to answer.

    Attributes:
        first_s, last_s: when the first and the latest token were generated, on the monotonic clock.
    """

    def __init__(self, backend: Backend, request: Request) -> None:
        self.backend, self.request = backend, request
        self.answer = backend.generate(request)
        self.reports: queue.SimpleQueue[Step | BaseException] = queue.SimpleQueue()
        self.first_s = self.last_s = 0.0
        self.has_output = self.is_second = False

    def outputs(self, is_over: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """Yield progress, then all new ids so far whenever there are more; None while nothing is new.

        Called on the consumer's thread.

        Args:
            is_over: returns whether no further step will run; then this stops waiting.

        Raises:
            HardwareError: No further step will run but the answer is not complete, or memory ran out. Any other error
                of a step is raised here as well.
        """
        while True:
            was_over = is_over()
            try:
                steps = [self.reports.get(timeout=0 if was_over else HEARTBEAT_S)]
            except queue.Empty:
                if was_over:
                    raise HardwareError("answer_lost") from None
                yield None
                continue
            while not self.reports.empty():
                steps.append(self.reports.get())
            end = steps[-1]
            yield from (progress for progress in steps if isinstance(progress, Progress))
            if new_ids := [ids for ids in steps if isinstance(ids, list)]:
                yield new_ids[-1]
            if isinstance(end, BaseException):
                raise end
            if end is None:
                return
            if new_ids:
                time.sleep(GATHER_S)

    @torch.inference_mode()
    def step(self) -> bool:
        """See `scheduler.Work`; every error is passed to the consumer, which would otherwise wait for ever."""
        try:
            step = next(self.answer)
        except StopIteration:
            self.reports.put(None)
            return False
        except BaseException as error:
            if is_out_of_memory(error):
                return self._restart_after_freeing(error)
            self.reports.put(error)
            return False
        if isinstance(step, list):
            self.last_s = time.monotonic()
            self.first_s = self.first_s if self.has_output else self.last_s
            self.has_output = True
        if step is not None:
            self.reports.put(step)
        return True

    @torch.inference_mode()
    def close(self) -> None:
        """See `scheduler.Work`."""
        self.answer.close()

    def _restart_after_freeing(self, error: BaseException) -> bool:
        """Free the caches and restart the answer, if that frees memory and nothing has been generated yet.

        Only once: a failed attempt leaves entries in the caches itself, so there would always be something to free.
        """
        if not self.has_output and not self.is_second and self.backend.free():
            self.is_second = True
            self.answer = self.backend.generate(self.request)
            return True
        shortage = HardwareError("out_of_memory_answering")
        shortage.__cause__ = error
        self.reports.put(shortage)
        return False


def seed_of(options: Options) -> int:
    """Return the seed of an answer; without one it is drawn from torch's generator, so `torch.manual_seed` applies."""
    if isinstance(options, BeamSearch | Greedy) or options.is_greedy:
        return 0  # decoding is deterministic
    return options.seed if options.seed is not None else int(torch.randint(2**31, ()))
