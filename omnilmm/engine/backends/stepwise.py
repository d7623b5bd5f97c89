"""transformers' `generate` as an iterator: it runs on while somebody asks for its next token, and stands still between.

`generate` calls its stopping criterion after every token. Ours hands the ids so far over and waits there until the
next ones are asked for, or until nobody wants them any more; so `generate` needs a thread of its own, but only one of
the two threads ever runs.
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

from omnilmm.engine.options import BeamSearch, Options
from omnilmm.engine.scheduler import mark_model_thread

# What only sampling looks at is named too, at what `generate` takes for unset: else it warns of the checkpoint's own.
_NOT_DRAWN = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}

Ids = list[int]
Generate = Callable[[StoppingCriteriaList], Tensor]
Surroundings = Callable[[], AbstractContextManager[Any]]


class _Stepwise(StoppingCriteria):
    """One call of `generate`, [rows, tokens] -> [rows] after every token; the best row comes first."""

    def __init__(self, generate: Generate, begins: int, around: Surroundings) -> None:
        self.generate, self.begins, self.around = generate, begins, around
        self.go_on = threading.Semaphore(0)
        self.said: queue.SimpleQueue[Ids | BaseException | None] = queue.SimpleQueue()
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
                self.inside.close()  # before anything is said: whoever hears it may go on at once
        except BaseException as error:  # whatever it is, who waits must hear of it
            last = error
        self.said.put(last)
        self.said.put(None)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        ids = self._new(input_ids)
        self.inside.close()
        self.said.put(ids)
        self._wait()
        return torch.full((len(input_ids),), self.is_over, device=input_ids.device)

    def _new(self, ids: Tensor) -> Ids:
        return [int(token) for token in ids[0, self.begins :].tolist()]

    def _wait(self) -> None:
        self.go_on.acquire()
        self.inside.enter_context(self.around())


def stepwise(generate: Generate, begins: int = 0, around: Surroundings = nullcontext) -> Iterator[Ids]:
    """The new ids so far after every token, and at the end those of the answer.

    Args:
        generate: calls a model's `generate` with the given stopping criteria.
        begins: how many ids `generate` gives before the first new one.
        around: gives what is entered whenever `generate` runs, and left while it stands still.
    """
    call = _Stepwise(generate, begins, around)
    thread = threading.Thread(target=call.run, name="generate", daemon=True)
    thread.start()
    try:
        while True:
            call.go_on.release()
            said = call.said.get()
            if said is None:
                return
            if isinstance(said, BaseException):
                raise said
            yield said
    finally:
        call.is_over = True
        call.go_on.release()
        thread.join()


def generate_arguments(options: Options, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Options as arguments of transformers' `generate`; none of them is left to a checkpoint's generation_config."""
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
    if options.is_greedy:
        return common | _NOT_DRAWN | {"num_beams": 1}
    return common | {
        "do_sample": True,
        "num_beams": 1,
        "temperature": float(options.temperature),
        "top_p": float(options.top_p),
        "top_k": options.top_k,
    }
