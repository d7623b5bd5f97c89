"""One run of transformers' `generate` in a thread of its own.

The stopping criterion that `generate` calls after every token reports the ids so far (with beam search the best running
beam comes first) and answers yes once nobody listens any more. So Stop needs no cooperation of anybody else, and frees
the model within one token.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from omnilmm.conversation import Conversation
from omnilmm.engine.options import BeamSearch, Options
from omnilmm.engine.reading import Reader, Reading
from omnilmm.errors import HardwareError

HEARTBEAT_S = 0.3  # the longest that `next()` of a stream blocks

Ids = list[int]


class Generation:
    """Iterating gives the new ids so far after every token, and None while nothing is new.

    Leaving the iteration stops the model. `reading` is there once the first ids are.
    """

    def __init__(self, reader: Reader, conversation: Conversation, options: Options) -> None:
        self.reader, self.conversation, self.options = reader, conversation, options
        self.reading = Reading({}, 0, 0, 0)
        self.reports: queue.Queue[Ids | BaseException | None] = queue.Queue()
        self.stop = threading.Event()
        self.seed = _seed(options)

    def __iter__(self) -> Iterator[Ids | None]:
        thread = threading.Thread(target=self._run, name="generation", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    report = self.reports.get(timeout=HEARTBEAT_S)
                except queue.Empty:
                    yield None
                    continue
                if report is None:
                    return
                if isinstance(report, BaseException):
                    raise report
                yield report
        finally:
            self.stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            self.reports.put(self._generate())
            self.reports.put(None)
        except torch.OutOfMemoryError as error:
            shortage = HardwareError(
                "The device ran out of memory while answering. Try a smaller picture, a shorter conversation, a lower "
                "length limit, or a smaller model."
            )
            shortage.__cause__ = error
            self.reports.put(shortage)
        except BaseException as error:  # whatever it is, the stream must end with it instead of waiting for ever
            self.reports.put(error)

    @torch.inference_mode()
    def _generate(self) -> Ids:
        device = self.reader.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self.reading = self.reader.read(self.conversation)
            if self.stop.is_set():
                return []
            output = self.reader.model.generate(
                **self.reading.arguments,
                stopping_criteria=StoppingCriteriaList([_Watch(self)]),
                generation_config=GenerationConfig(**generate_arguments(self.options, self.reader.stop_ids)),
            )
        return [int(token) for token in output[0, self.reading.begins :]]


class _Watch(StoppingCriteria):
    """Called by `generate` after every token: reports the ids so far, and answers whether to stop."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """[rows, tokens] -> [rows], all true once the stream was closed; the best row comes first."""
        self.generation.reports.put(input_ids[0, self.generation.reading.begins :].tolist())
        return torch.full((len(input_ids),), self.generation.stop.is_set(), device=input_ids.device)


def _seed(options: Options) -> int:
    """Without a seed torch's generator gives one, so `torch.manual_seed(0)` before an answer counts."""
    if isinstance(options, BeamSearch):
        return 0  # nothing is drawn
    return options.seed if options.seed is not None else int(torch.randint(2**31, ()))


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
        return common | {
            "num_beams": options.beams,
            "do_sample": False,
            "length_penalty": float(options.length_penalty),
            "early_stopping": False,
        }
    return common | {
        "do_sample": True,
        "num_beams": 1,
        "temperature": float(options.temperature),
        "top_p": float(options.top_p),
        "top_k": options.top_k,
    }
