"""The engine for Hugging Face's ZeroGPU, which lends a GPU for one answer at a time.

The `spaces` package, available only there, emulates CUDA in the main process. A generator decorated by it runs in a
forked process with the real GPU; its arguments and the values it yields are pickled. So the model has to be loaded
before the page is served, caches are not shared between answers, and answers are not scheduled together. Prompts are
rendered before the GPU is lent: the forked process would have to start a renderer of its own, on GPU time.

Based on the source of spaces 0.51.3; not tested on ZeroGPU.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable
from dataclasses import replace
from importlib import import_module
from typing import Any

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.backends.transformers_backend import TransformersBackend
from omnilmm.engine.context import fitted
from omnilmm.engine.events import Event, PictureSlice, Progress
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Options
from omnilmm.errors import HardwareError, OmniLMMError
from omnilmm.prompts import template_pool
from omnilmm.sentences import Sentence

DURATION_S = 60  # GPU time requested from the user's quota; an answer that takes longer is cut off

_Answer = Generator[Event | OmniLMMError]
_processing = threading.Lock()  # a tokenizer is used by one thread at a time
_engine: LocalEngine | None = None  # inherited by the forked process; as an argument it would be pickled


class ZeroGpuEngine:
    """The engine on ZeroGPU, see `events.Engine`. There is one per process.

    Args:
        engine: the engine, loaded on the emulated device, on the thread that imported `spaces`.
    """

    def __init__(self, engine: LocalEngine) -> None:
        global _engine
        _engine = engine
        self.card, self.dtype, self.memory_bytes = engine.card, engine.dtype, engine.memory_bytes
        self.device = replace(engine.device, reason=Sentence("lent_by_zero_gpu"))
        self._lend: Any = import_module("spaces").GPU(duration=DURATION_S)(_answer)

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message; `owner` is ignored. Stopping has no effect until a GPU is assigned."""
        yield Progress("loading")  # the weights are moved to the GPU for each answer
        answer: _Answer = self._lend(conversation, options, _prompts(conversation, options))
        try:
            for event in answer:
                if isinstance(event, OmniLMMError):
                    raise event
                yield event
        except OmniLMMError:
            raise
        except Exception as error:
            # The service raises Gradio errors with a message for the user, e.g. quota exceeded or no GPU available.
            if message := getattr(error, "message", None):
                raise HardwareError("no_gpu_for_answer", reason=message) from error
            raise
        finally:
            answer.close()

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how the model slices a picture."""
        return _engine.slices(picture, options) if _engine is not None else None

    def forget(self, owner: Hashable) -> None:
        """Do nothing: no state is kept between answers."""


def _prompts(conversation: Conversation, options: Options | None) -> dict[str, str]:
    """Return the prompts that an answer needs, from the renderer of this process.

    Raises:
        OmniLMMError: The question cannot be answered.
    """
    with _processing, template_pool.recorded() as prompts:
        engine = _fresh()  # as in the forked process
        options = engine.completed(options)
        fitting, _ = fitted(engine.fit(conversation, options))
        if isinstance(engine.backend, TransformersBackend):
            engine.backend.processed(fitting, options)
    return prompts


def _answer(conversation: Conversation, options: Options | None, prompts: dict[str, str]) -> _Answer:
    """Answer in the process with the GPU. Errors are yielded: if raised, only their class name would be passed on."""
    template_pool.rendered_before.clear()  # the process may be used again, for somebody else
    template_pool.rendered_before.update(prompts)
    try:
        yield from _fresh().stream(conversation, options)
    except OmniLMMError as error:
        yield error


def _fresh() -> LocalEngine:
    """Return a new engine for the same model: threads do not survive a fork."""
    if _engine is None:
        raise RuntimeError("There is no model.")
    return LocalEngine(
        _engine.model,
        _engine.processor,
        _engine.card,
        _engine.device,
        _engine.dtype,
        at_once=1,
        feature_bytes=0,
        prefix_bytes=0,
        max_slices=_engine.max_slices,
    )
