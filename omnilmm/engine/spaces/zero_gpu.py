"""Answers on Hugging Face's ZeroGPU, where a GPU is lent for one answer at a time.

The `spaces` package, which is there only, emulates CUDA in the program. A generator that it decorates runs in a forked
process that has the real GPU, with its arguments and what it yields pickled in between. So the model has to be there
before the page is served, no answer sees what another one has kept, and no two advance together.

Read from spaces 0.51.3; it was not run on ZeroGPU.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import replace
from importlib import import_module
from typing import Any

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Event, PictureSlice, Progress
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Options
from omnilmm.errors import HardwareError, OmniLMMError
from omnilmm.sentences import Sentence

DURATION_S = 60  # for which a visitor's share of the GPU is asked; an answer that takes longer is cut off

_Answer = Generator[Event | OmniLMMError]
_engine: LocalEngine | None = None  # reaches the forked process as it is: arguments would be pickled


class ZeroGpuEngine:
    """See `events.Engine`. One per process.

    Args:
        engine: loaded on the emulated device, on the thread that imported `spaces`.
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
        """Answer the last message; `owner` is of no use here. Until there is a GPU, nothing can be stopped."""
        yield Progress("loading")  # the weights go onto the GPU for each answer
        answer: _Answer = self._lend(conversation, options)
        try:
            for event in answer:
                if isinstance(event, OmniLMMError):
                    raise event
                yield event
        except OmniLMMError:
            raise
        except Exception as error:
            # What the service says is an error of Gradio's, with a text for the reader: no share left, no GPU free.
            if message := getattr(error, "message", None):
                raise HardwareError("no_gpu_for_answer", reason=message) from error
            raise
        finally:
            answer.close()

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """How the model looks at a picture."""
        return _engine.slices(picture, options) if _engine is not None else None

    def forget(self, owner: Hashable) -> None:
        """Nothing is kept."""


def _answer(conversation: Conversation, options: Options | None) -> _Answer:
    """In the process that has the GPU. Errors are yielded: raised, only the name of their class would come across."""
    if _engine is None:
        raise RuntimeError("There is no model.")
    # Threads do not survive a fork: an engine of its own around the same model.
    fresh = LocalEngine(
        _engine.model,
        _engine.processor,
        _engine.card,
        _engine.device,
        _engine.dtype,
        at_once=1,
        feature_bytes=0,
        prefix_bytes=0,
    )
    try:
        yield from fresh.stream(conversation, options)
    except OmniLMMError as error:
        yield error
