"""Scenes, conversations and a small processor that many tests share."""

import random
from collections.abc import Iterator

import pytest
import torch

from built_in.scenes import Scene, random_scene
from omnilmm.models.processor import MiniCPMVProcessor
from tests.built_in.small import small_processor
from tests.built_in.truth import Talk, talk_about


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Training has the processor take denormals for zero; other tests of this process need them."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    rng = random.Random(11)
    return [random_scene(rng) for _ in range(1500)]


@pytest.fixture(scope="session")
def talks() -> list[Talk]:
    """Conversations in both languages about pictures of every layout of print, each seven turns long."""
    rng = random.Random(21)
    return [talk_about(random_scene(rng), rng) for _ in range(3000)]


@pytest.fixture(scope="session")
def processor() -> MiniCPMVProcessor:
    return small_processor()
