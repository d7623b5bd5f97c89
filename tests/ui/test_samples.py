"""The sample pictures show what their answers say, and are asked about in words that the built-in model knows."""

from __future__ import annotations

import random
from functools import cache

import pytest
from PIL import ImageChops

from built_in.drawing import draw
from built_in.facts import Facts
from built_in.language import CODES, Code, language
from built_in.lessons import ASKERS
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import Sample, samples
from tests.pages.draw_samples import SCENES

every_sample = pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.picture.stem)


@cache
def truths(name: str, code: Code) -> dict[str, str]:
    """What can be asked about a sample picture, and the true answers."""
    scene, rng, speak = SCENES[name], random.Random(1), language(code)
    turns = [ask(Facts(scene), rng, speak) for ask in ASKERS.values() for _ in range(500)]
    return {turn.question: turn.answer for turn in turns if turn is not None}


@every_sample
def test_the_answers_are_true(sample: Sample) -> None:
    for code in CODES:
        assert truths(sample.picture.stem, code)[sample.asked_in(code)] == (
            sample.answer_zh if code == "zh" else sample.answer
        )


@every_sample
def test_the_picture_is_the_scene(sample: Sample) -> None:
    drawn = draw(SCENES[sample.picture.stem])
    assert ImageChops.difference(open_picture(sample.picture).image, drawn).getbbox() is None


def test_every_scene_is_a_sample() -> None:
    assert [sample.picture.stem for sample in samples()] == list(SCENES)
