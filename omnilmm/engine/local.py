"""The local engine: runs conversations through a loaded model, each as a stream of events.

    stream() ── submits a `Generation` to the scheduler ── yields what it reports

The backend (`backends/`) prepares the model's inputs and defines which ids are text; `scheduler.py` decides which
answer runs its next step.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Hashable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.answer import Answer
from omnilmm.engine.backends import backend_for
from omnilmm.engine.backends.base import Request
from omnilmm.engine.backends.native import NativeBackend
from omnilmm.engine.backends.stepwise import generate_arguments
from omnilmm.engine.backends.transformers_backend import TransformersBackend
from omnilmm.engine.caches.features import FEATURE_BYTES
from omnilmm.engine.caches.prefix import PREFIX_BYTES
from omnilmm.engine.context import ContextWindow
from omnilmm.engine.events import (
    HEARTBEAT_S,
    Event,
    Finished,
    PictureSlice,
    Progress,
    TextDelta,
    ThoughtDelta,
    Timings,
    Usage,
)
from omnilmm.engine.generation import Generation, seed_of
from omnilmm.engine.options import Options, check_abilities, options_for
from omnilmm.engine.placement.device_memory import footprint
from omnilmm.engine.placement.estimate import TOKENS, cache_bytes
from omnilmm.engine.scheduler import AT_ONCE, Job, Scheduler
from omnilmm.errors import InputError
from omnilmm.hardware import Choice
from omnilmm.models.picture_model import PictureModel

__all__ = ["LocalEngine", "generate_arguments"]

CACHES_BYTES = 2**29  # of the KV caches in use, where more than `AT_ONCE` answers are generated concurrently
MOST_AT_ONCE = 32


class LocalEngine:
    """Answers conversations with a loaded model; several answers are generated concurrently.

    Args:
        model: the loaded model, on its device and in its dtype: a native one of this package, or any
            image-text-to-text model of transformers.
        processor: the processor of the same checkpoint.
        card: the model's card.
        device: the device it runs on, and why.
        dtype: the dtype it computes in, and why.
        at_once: maximum number of answers generated concurrently; further ones are queued. None for 8, or up to 32 if
            the KV caches are small.
        feature_bytes: size of the image feature cache, with which each picture is encoded once.
        prefix_bytes: size of the prefix cache: KV caches kept between turns, so that follow-ups prefill only what is
            new.
        max_slices: maximum number of slices per picture where the options do not say; None for the checkpoint's.

    Raises:
        CheckpointError: The checkpoint cannot hold a conversation, e.g. it has no chat template.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        card: ModelCard,
        device: Choice,
        dtype: Choice,
        *,
        at_once: int | None = None,
        feature_bytes: int = FEATURE_BYTES,
        prefix_bytes: int = PREFIX_BYTES,
        max_slices: int | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.device, self.dtype = device, dtype
        self.memory_bytes = footprint(model)
        at_once = at_once or _most_at_once(model, card, device, dtype)
        self.backend = backend_for(model, processor, feature_bytes, prefix_bytes, at_once)
        thinking = self.backend.thinking
        # The thinking default and the number of slices are taken from the checkpoint instead of the catalog.
        found: dict[str, Any] = {"thinking": thinking.default if thinking else None}
        if card.max_slices is not None and (rules := getattr(model.config, "slicing_rules", None)):
            found["max_slices"] = rules.max_slices
        self.max_slices = max_slices if card.max_slices is not None else None
        if self.max_slices is not None:
            found["max_slices"] = self.max_slices
        self.card = card.model_copy(update=found)
        self.window = ContextWindow(self.backend.length, self.backend.count, card.context)
        if isinstance(self.backend, NativeBackend):
            self.backend.processor.video = card.video_sampling()  # no more frames than the context holds
        elif isinstance(self.backend, TransformersBackend):
            self.backend.sampling = card.video_sampling
        self.scheduler = Scheduler(at_once)

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message; see `events.Engine`."""
        options = self.completed(options)
        asked = time.monotonic()
        fitting, dropped = yield from self.fit(conversation, options)
        generation = Generation(self.backend, Request(fitting, options, seed_of(options), owner))
        with self.scheduler.submit(generation, owner) as job:
            position = job.position()
            while position:
                yield Progress("waiting", total=position)
                position = job.position(wait_s=HEARTBEAT_S)
            yield from self._answer(generation, job, dropped, waited_s=time.monotonic() - asked)

    def fit(self, conversation: Conversation, options: Options) -> Generator[Event, None, tuple[Conversation, int]]:
        """Check a question, and fit its conversation into the context; the first part of an answer.

        Yields between pieces of a long conversation, so that it can be stopped.

        Returns:
            The conversation, and how many messages were dropped.

        Raises:
            OmniLMMError: It cannot be answered.
        """
        conversation.check_question()
        self._check_abilities(conversation, options)
        fitting = self.window.fit(conversation, options.max_new_tokens, partial(self.backend.length, options=options))
        while True:
            try:
                next(fitting)
            except StopIteration as found:
                result: tuple[Conversation, int] = found.value
                return result
            yield Progress("prefill")

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how the model slices a picture; see `events.Engine`."""
        return self.backend.slices(picture, self.completed(options))

    def warm_up(self) -> None:
        """Answer a dummy question up to its second delta, so that no user waits for one-time initialisation.

        On a GPU this includes capturing the CUDA graph. Requests are accepted meanwhile.
        """
        picture = Picture(Image.new("RGB", (64, 64), "white"))
        question = Conversation().with_message("user", picture, "?")
        with closing(self.stream(question, options_for(self.card, seed=0))) as events:
            outputs = (event for event in events if isinstance(event, TextDelta | ThoughtDelta | Finished))
            next(itertools.islice(outputs, 1, None), None)

    def forget(self, owner: Hashable) -> None:
        """Drop everything cached for an owner; see `events.Engine`."""
        self.backend.forget(owner)

    def completed(self, options: Options | None) -> Options:
        """Return the options of an answer: the model's own where none are given, with this engine's limit of slices."""
        options = options or options_for(self.card)
        if self.max_slices is None or options.max_slices is not None:
            return options
        return replace(options, max_slices=self.max_slices)

    def _check_abilities(self, conversation: Conversation, options: Options) -> None:
        check_abilities(self.card, options)
        if conversation.system and not self.card.system_prompt:
            raise InputError("no_system_prompt", title=self.card.title)
        if conversation.videos:
            self.card.require_video()
        if len(set(conversation.pictures)) > 1 and not self.card.several_pictures:
            raise InputError("one_picture_only", title=self.card.title)

    def _answer(self, generation: Generation, job: Job, dropped: int, waited_s: float) -> Iterator[Event]:
        request = generation.request
        answer = Answer(self.backend, request)
        began_s = time.monotonic()
        asked = request.conversation.messages[-1]
        progress = Progress("frames" if asked.videos else "encoding", total=0 if asked.videos else len(asked.pictures))
        yield progress
        for output in generation.outputs(job.gone.is_set):
            if isinstance(output, list):
                yield from answer.add(output)
                if answer.has_stopped:
                    break
            else:
                progress = output or progress
                yield progress
        yield from answer.finish()
        yield Finished(
            text=answer.text,
            reason="end" if answer.has_ended or answer.has_stopped else "length",
            usage=Usage(request.text_tokens, request.picture_tokens, len(answer.ids), request.reused),
            timings=Timings(waited_s, generation.first_s - began_s, generation.last_s - began_s),
            dropped_messages=dropped,
            thought=answer.thought,
        )


def _most_at_once(model: Any, card: ModelCard, device: Choice, dtype: Choice) -> int:
    """Return how many answers are generated concurrently.

    More of them shorten the queue, but slow each other down, and each has a KV cache.
    """
    if not isinstance(model, PictureModel):
        return AT_ONCE
    each = cache_bytes(model.config, dtype.value, device.value, min(card.context, TOKENS))
    return min(max(CACHES_BYTES // each, AT_ONCE), MOST_AT_ONCE)
