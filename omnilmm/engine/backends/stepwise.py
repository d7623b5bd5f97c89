"""transformers' `generate` as an iterator: it runs while the next token is requested, and is suspended in between.

`generate` calls its stopping criteria after every token. Ours passes on the ids so far and blocks until the next token
is requested or the iterator is closed. So `generate` needs a thread of its own, but only one of the two threads runs at
any time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from omnilmm.engine.options import BeamSearch, Greedy, Options
from omnilmm.engine.scheduler import mark_model_thread

# Sampling options are set to the defaults of `generate`; otherwise it warns about those of the checkpoint.
_NOT_DRAWN = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}

Ids = list[int]
Generate = Callable[[StoppingCriteriaList], Tensor]
Surroundings = Callable[[], AbstractContextManager[Any]]


class _Stepwise(StoppingCriteria):
    """One call of `generate`; as stopping criteria it maps [rows, tokens] to [rows]. The best beam is the first row."""

    def __init__(self, generate: Generate, begins: int, around: Surroundings) -> None:
        self.generate, self.begins, self.around = generate, begins, around
        self.resume = threading.Semaphore(0)
        self.outputs: queue.SimpleQueue[Ids | BaseException | None] = queue.SimpleQueue()
        self.is_over = False
        self.inside = ExitStack()

    @torch.inference_mode()
    def run(self) -> None:
        last: Ids | BaseException = []
        try:
            try:
                mark_model_thread()
                self._wait()
                if not self.is_over:
                    last = self._new(self.generate(StoppingCriteriaList([self])))
            finally:
                self.inside.close()  # before anything is reported, since the consumer may continue at once
        except BaseException as error:  # every error has to reach the consumer
            last = error
        self.outputs.put(last)
        self.outputs.put(None)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        ids = self._new(input_ids)
        self.inside.close()
        self.outputs.put(ids)
        self._wait()
        return torch.full((len(input_ids),), self.is_over, device=input_ids.device)

    def _new(self, ids: Tensor) -> Ids:
        return [int(token) for token in ids[0, self.begins :].tolist()]

    def _wait(self) -> None:
        self.resume.acquire()
        self.inside.enter_context(self.around())


def stepwise(generate: Generate, begins: int = 0, around: Surroundings = nullcontext) -> Iterator[Ids]:
    """Yield the new ids so far after every token, and at the end those of the final answer.

    Args:
        generate: calls a model's `generate` with the given stopping criteria.
        begins: number of ids that `generate` returns before the first new one.
        around: returns a context manager that is entered while `generate` runs and left while it is suspended.
    """
    call = _Stepwise(generate, begins, around)
    thread = threading.Thread(target=call.run, name="generate", daemon=True)
    thread.start()
    try:
        while True:
            call.resume.release()
            output = call.outputs.get()
            if output is None:
                return
            if isinstance(output, BaseException):
                raise output
            yield output
    finally:
        call.is_over = True
        call.resume.release()
        thread.join()


def generate_arguments(options: Options, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Convert options to arguments of transformers' `generate`; none is left to the checkpoint's generation_config."""
    common = {
        "max_new_tokens": options.max_new_tokens,
        "repetition_penalty": float(options.repetition_penalty),
        "eos_token_id": list(stop_ids),
        "pad_token_id": stop_ids[0],
        "use_cache": True,
    }
    if isinstance(options, BeamSearch):
        return (
            common
            | _NOT_DRAWN
            | {
                "num_beams": options.beams,
                "length_penalty": float(options.length_penalty),
                "early_stopping": False,
            }
        )
    if isinstance(options, Greedy) or options.is_greedy:
        return common | _NOT_DRAWN | {"num_beams": 1}
    return common | {
        "do_sample": True,
        "num_beams": 1,
        "temperature": float(options.temperature),
        "top_p": float(options.top_p),
        "top_k": options.top_k,
    }
