"""A whole engine on a random model of a few hundred thousand weights, and ways to steer what the model does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Event, Preview, TextDelta, ThoughtDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Options
from omnilmm.hardware import Choice
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.picture_model import PictureModel
from tests.models.tiny import tiny_model, tiny_processor
from tests.waiting import wait_until

CARD = ModelCard(
    name="tiny",
    title="Tiny",
    source="nowhere",
    family="minicpm-v-2.6",
    parameters=1,
    stored="fp32",
    download_gib=0,
    memory_gib={},
    languages=("en",),
    context=600,
    max_new_tokens=24,
    system_prompt=True,
    several_pictures=True,
    boxes=True,
    licence="none",
    note="random",
)


@dataclass
class Passes:
    """Forward passes of the language model, counted when they start; each may take a while, or fail.

    Attributes:
        engine: whose they are.
        most: those beyond stand still until the test raises it, or until somebody leaves an answer.
    """

    engine: LocalEngine
    most: float = inf
    pause_s: float = 0.0
    fail_at: int = 0
    error: Exception = field(default_factory=lambda: RuntimeError("the model broke"))
    count: int = 0

    def __call__(self, *_: Any) -> None:
        self.count += 1
        if self.count > self.most:
            wait_until(lambda: self.count <= self.most or is_left(self.engine))
        time.sleep(self.pause_s)
        if self.count == self.fail_at:
            raise self.error


def is_left(engine: LocalEngine) -> bool:
    """Whether somebody has gone whose answer the model has not put away yet."""
    with engine.scheduler._changed:
        return any(job.leaving for job in engine.scheduler._running)


def _speaking_part(engine: LocalEngine) -> Any:
    """What is called once per token, and for every part of a prompt: without the head where the model is ours."""
    return engine.model.get_decoder() if isinstance(engine.model, PictureModel) else engine.model


@contextmanager
def watched(engine: LocalEngine, **behaviour: Any) -> Iterator[Passes]:
    """The engine with every forward pass counted, held up or broken."""
    passes = Passes(engine, **behaviour)
    handle = _speaking_part(engine).register_forward_pre_hook(passes)
    try:
        yield passes
    finally:
        handle.remove()


def heard(engine: LocalEngine, conversation: Conversation, options: Options) -> list[Event]:
    """All events of an answer: the model takes a few passes, and the rest once its first words were heard."""
    events: list[Event] = []
    with watched(engine, most=4) as passes:
        for event in engine.stream(conversation, options):
            events.append(event)
            if isinstance(event, TextDelta | ThoughtDelta | Preview):
                passes.most = inf
    return events


@contextmanager
def saying(engine: LocalEngine, ids: list[int]) -> Iterator[None]:
    """The model says these ids whatever it sees, then its end token."""
    steps = iter([*ids, *[engine.backend.stop_ids[0]] * 100])

    def dictate(_: Any, __: Any, logits: Tensor) -> Tensor:
        dictated = torch.full_like(logits, -1e4)
        dictated[..., next(steps)] = 0.0
        return dictated

    handle = engine.model.get_output_embeddings().register_forward_hook(dictate)
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture(scope="session")
def _model() -> MiniCPMV:
    return tiny_model()


@pytest.fixture
def make_engine(_model: MiniCPMV) -> Callable[..., LocalEngine]:
    """Engines with a card of your own on the same weights."""

    def make(at_once: int | None = 8, **card: Any) -> LocalEngine:
        changed = CARD.model_copy(update=card)
        cpu, fp32 = Choice("cpu", "test"), Choice("fp32", "test")
        return LocalEngine(_model, tiny_processor(), changed, cpu, fp32, at_once=at_once)

    return make


@pytest.fixture
def engine(make_engine: Callable[..., LocalEngine]) -> LocalEngine:
    return make_engine()


@pytest.fixture
def question() -> Conversation:
    return Conversation().with_message("user", Picture(Image.new("RGB", (60, 40), "red")), "What is it?")
