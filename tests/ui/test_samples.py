"""The sample pictures show what their answers say, and are asked about in words that the built-in model knows."""

from __future__ import annotations

import random
from functools import cache

import pytest
from PIL import ImageChops

from omnilmm.images.pixels import open_picture
from omnilmm.training.charts import Chart, Entry
from omnilmm.training.drawing import draw
from omnilmm.training.facts import Facts
from omnilmm.training.language import CODES, Code, language
from omnilmm.training.lessons import ASKERS
from omnilmm.training.questions.charts import ask_chart
from omnilmm.ui.samples import Sample, samples
from tests.pages.draw_samples import BASE, SCENES

every_sample = pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.picture.stem)


@cache
def truths(name: str, code: Code) -> dict[str, str]:
    """What can be asked about a sample picture, and the true answers."""
    scene, rng, speak = SCENES[name], random.Random(1), language(code)
    if name == "chart":
        bars = zip(scene.labels, scene.panels, strict=False)  # the last panel is the base line
        entries = [Entry(label.text, int(BASE - bar.corners[0][1]), bar.colour or "") for label, bar in bars]
        chart = Chart(scene, "bar", tuple(entries), of_months=True)
        turns = [ask_chart(chart, rng, speak) for _ in range(1000)]
    else:
        turns = [ask(Facts(scene), rng, speak) for ask in ASKERS.values() for _ in range(500)]
    return {turn.question: turn.answer for turn in turns if turn is not None}


@every_sample
def test_the_answers_are_true(sample: Sample) -> None:
    for code in CODES:
        assert truths(sample.picture.stem, code)[sample.asked_in(code)] == sample.answered_in(code)


@every_sample
def test_the_picture_is_the_scene(sample: Sample) -> None:
    drawn = draw(SCENES[sample.picture.stem])
    assert ImageChops.difference(open_picture(sample.picture).image, drawn).getbbox() is None


def test_every_scene_is_a_sample() -> None:
    assert [sample.picture.stem for sample in samples()] == list(SCENES)
