"""The engine on this machine: transformers' `generate` in a thread of its own, its progress as a stream of events.

    stream() ── waits for its turn ── starts a thread ── yields what the thread reports
                                        generate() ── after every token: report, and ask "stop?"

The stopping criterion that `generate` calls after every token does both: it reports the ids so far (with beam search
the best running beam comes first) and answers yes once the stream was closed. So Stop needs no cooperation of anybody
else, and frees the model within one token.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation
from omnilmm.engine.context import fit
from omnilmm.engine.events import Event, Finished, Preview, Progress, TextDelta, Timings, Usage
from omnilmm.engine.options import BeamSearch, Options, options_for
from omnilmm.engine.queue import WaitingLine
from omnilmm.engine.text import TextStream
from omnilmm.errors import HardwareError, InputError
from omnilmm.hardware import Choice
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts.pieces import Prompt

HEARTBEAT_S = 0.3  # the longest that `next()` of a stream blocks

Ids = list[int]


class LocalEngine:
    """Answers conversations with a loaded model, one at a time, in the order of asking.

    Args:
        model: on its device, in its number type.
        processor: of the same checkpoint.
        card: what is known about the model.
        device: where it runs, and why.
        dtype: its number type, and why.
    """

    def __init__(
        self, model: MiniCPMV, processor: MiniCPMVProcessor, card: ModelCard, device: Choice, dtype: Choice
    ) -> None:
        self.model, self.processor = model, processor
        self.card, self.device, self.dtype = card, device, dtype
        self.line = WaitingLine()

    def stream(self, conversation: Conversation, options: Options | None = None) -> Generator[Event]:
        """Answer the last message; see `events.Engine`."""
        options = options or options_for(self.card)
        conversation.check_question()
        self._check_abilities(conversation)
        asked = time.monotonic()
        fitting, dropped = fit(
            conversation, lambda c: len(self.processor.prompt(c)), self.card.context, options.max_new_tokens
        )
        with self.line.place() as ticket:
            ahead = self.line.ahead(ticket)
            while ahead:
                yield Progress("waiting", total=ahead)
                ahead = self.line.ahead(ticket, wait_s=HEARTBEAT_S)
            yield from self._answer(fitting, options, dropped, waited_s=time.monotonic() - asked)

    def _check_abilities(self, conversation: Conversation) -> None:
        if conversation.system and not self.card.system_prompt:
            raise InputError(f"{self.card.title} has no system prompt: leave it empty.")
        if len(set(conversation.pictures)) > 1 and not self.card.several_pictures:
            raise InputError(
                f"{self.card.title} looks at one picture per conversation: start a new one to ask about another."
            )

    def _answer(self, conversation: Conversation, options: Options, dropped: int, waited_s: float) -> Iterator[Event]:
        prompt = self.processor.prompt(conversation)
        text = TextStream(self.processor.tokenizer)
        began = time.monotonic()
        first_token_s = 0.0
        answer: Ids = []
        yield Progress("reading", total=len(conversation.pictures))
        for ids in _Generation(self.model, self.processor, conversation, prompt, options):
            if ids is None:
                yield Progress("reading", total=len(conversation.pictures))
                continue
            first_token_s = first_token_s or time.monotonic() - began
            answer = ids
            spoken = self._spoken(ids)
            if isinstance(options, BeamSearch):
                yield Preview(self._decode(spoken))
            elif delta := text.add(*spoken[len(text.ids) :]):
                yield TextDelta(delta)
        spoken = self._spoken(answer)
        if isinstance(options, BeamSearch):
            whole = self._decode(spoken)
        else:
            if rest := text.finish():
                yield TextDelta(rest)
            whole = text.text
        picture_tokens = sum(prompt.image_slots)
        yield Finished(
            text=whole,
            reason="end" if len(spoken) < len(answer) else "length",
            usage=Usage(len(prompt) - picture_tokens, picture_tokens, len(answer)),
            timings=Timings(waited_s, first_token_s, time.monotonic() - began),
            dropped_messages=dropped,
        )

    def _spoken(self, ids: Ids) -> Ids:
        """Ids up to the first end token."""
        ends = [position for position, token in enumerate(ids) if token in self.processor.stop_ids]
        return ids[: ends[0]] if ends else ids

    def _decode(self, ids: Ids) -> str:
        text = TextStream(self.processor.tokenizer)
        text.add(*ids)
        text.finish()
        return text.text


class _Generation:
    """One run of `generate`: iterating gives the ids so far after every token, and None while nothing is new."""

    def __init__(
        self,
        model: MiniCPMV,
        processor: MiniCPMVProcessor,
        conversation: Conversation,
        prompt: Prompt,
        options: Options,
    ) -> None:
        self.model, self.processor, self.prompt, self.options = model, processor, prompt, options
        self.pictures = conversation.pictures
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
        device = self.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            features = self._features()
            if self.stop.is_set():
                return []
            ids = torch.tensor([self.prompt.input_ids], device=device)
            slots = torch.tensor([self.prompt.image_slots], device=device)
            watch = _Watch(self)
            output = self.model.generate(
                inputs_embeds=self.model.merge(ids, slots, features),
                stopping_criteria=StoppingCriteriaList([watch]),
                generation_config=GenerationConfig(**generate_arguments(self.options, self.processor.stop_ids)),
            )
        return [int(token) for token in output[0]]

    def _features(self) -> Tensor | None:
        if not self.pictures:
            return None
        pixels, sizes = self.processor.views(self.pictures)
        device = self.model.device
        return self.model.get_image_features(pixels.to(device, self.model.dtype), sizes.to(device))


class _Watch(StoppingCriteria):
    """Called by `generate` after every token: reports the ids so far, and answers whether to stop."""

    def __init__(self, generation: _Generation) -> None:
        self.generation = generation

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """[rows, tokens] -> [rows], all true once the stream was closed; the best row comes first."""
        self.generation.reports.put(input_ids[0].tolist())
        return torch.full((len(input_ids),), self.generation.stop.is_set(), device=input_ids.device)


def _seed(options: Options) -> int:
    """Without a seed torch's generator gives one, so `torch.manual_seed(0)` before an answer counts."""
    if isinstance(options, BeamSearch):
        return 0  # nothing is drawn
    return options.seed if options.seed is not None else int(torch.randint(2**31, ()))


def generate_arguments(options: Options, stop_ids: Ids) -> dict[str, Any]:
    """Options as arguments of transformers' `generate`; nothing is left to a checkpoint's generation_config."""
    common = {
        "max_new_tokens": options.max_new_tokens,
        "repetition_penalty": float(options.repetition_penalty),
        "eos_token_id": stop_ids,
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
