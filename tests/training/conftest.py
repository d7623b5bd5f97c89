"""Scenes that many tests look at."""

import random

import pytest

from omnilmm.training.scenes import Scene, random_scene


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    rng = random.Random(11)
    return [random_scene(rng) for _ in range(1500)]
