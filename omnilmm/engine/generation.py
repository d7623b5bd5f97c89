"""One answer as a piece of work: its steps are done where the model is, and heard where it was asked for."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import torch

from omnilmm.engine.backends.base import Backend, Request, Step
from omnilmm.engine.events import HEARTBEAT_S, Progress
from omnilmm.engine.options import BeamSearch, Options
from omnilmm.errors import HardwareError

# After the first token, those of so long are heard together: to wake a listener for each costs a small model a fifth.
GATHER_S = 0.02


class Generation:
    """An answer that is being given; a `scheduler.Work`.

    Args:
        backend: the model's.
        request: what to answer.

    Attributes:
        first_s, last_s: when the first and the last token so far were there, on the monotonic clock.
    """

    def __init__(self, backend: Backend, request: Request) -> None:
        self.backend, self.request = backend, request
        self.answer = backend.generate(request)
        self.reports: queue.SimpleQueue[Step | BaseException] = queue.SimpleQueue()
        self.first_s = self.last_s = 0.0
        self.has_output = False

    def outputs(self) -> Iterator[Step]:
        """How far it is, then the new ids so far whenever there are more; None while nothing is new.

        Called by who asked.
        """
        while True:
            try:
                said = [self.reports.get(timeout=HEARTBEAT_S)]
            except queue.Empty:
                yield None
                continue
            while not self.reports.empty():
                said.append(self.reports.get())
            end = said[-1]
            yield from (progress for progress in said if isinstance(progress, Progress))
            if spoken := [ids for ids in said if isinstance(ids, list)]:
                yield spoken[-1]
            if isinstance(end, BaseException):
                raise end
            if end is None:
                return
            if spoken:
                time.sleep(GATHER_S)

    @torch.inference_mode()
    def step(self) -> bool:
        """See `scheduler.Work`; whatever goes wrong, who listens must hear of it instead of waiting for ever."""
        try:
            said = next(self.answer)
        except StopIteration:
            self.reports.put(None)
            return False
        except torch.OutOfMemoryError as error:
            return self._has_room_again(error)
        except BaseException as error:
            self.reports.put(error)
            return False
        if isinstance(said, list):
            self.last_s = time.monotonic()
            self.first_s = self.first_s if self.has_output else self.last_s
            self.has_output = True
        if said is not None:
            self.reports.put(said)
        return True

    @torch.inference_mode()
    def close(self) -> None:
        """See `scheduler.Work`."""
        self.answer.close()

    def _has_room_again(self, error: torch.OutOfMemoryError) -> bool:
        """Begin anew without what was kept for later, if that helps and nothing was said yet."""
        if not self.has_output and self.backend.free():
            self.answer = self.backend.generate(self.request)
            return True
        shortage = HardwareError("out_of_memory_answering")
        shortage.__cause__ = error
        self.reports.put(shortage)
        return False


def seed_of(options: Options) -> int:
    """Without a seed torch's generator gives one, so `torch.manual_seed(0)` before an answer counts."""
    if isinstance(options, BeamSearch) or options.is_greedy:
        return 0  # nothing is drawn
    return options.seed if options.seed is not None else int(torch.randint(2**31, ()))
