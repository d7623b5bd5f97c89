"""The sample pictures show what their answers say."""

from __future__ import annotations

from collections import Counter

import pytest
from PIL import ImageChops

from omnilmm.images.pixels import open_picture
from omnilmm.training.drawing import draw
from omnilmm.training.facts import describe
from omnilmm.ui.samples import Sample, samples
from tests.pages.draw_samples import SCENES


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.picture.stem)
def test_the_answer_is_true(sample: Sample) -> None:
    scene = SCENES[sample.picture.stem]
    kinds = Counter(shape.kind for shape in scene.shapes)
    first = scene.shapes[0] if scene.shapes else None
    truths = {
        "What colour is the circle?": lambda: f"The circle is {first.colour}.",
        "How many stars are there?": lambda: f"There are {kinds['star']} stars.",
        "Is there a heart in the picture?": lambda: "Yes, there is a heart." if kinds["heart"] else "",
        "Which shape is purple?": lambda: f"The {first.colour} one is a {first.kind}.",
        "What does it say?": lambda: f'It says "{scene.label.text}".',
        "What is in this picture?": lambda: describe(scene),
    }
    assert sample.answer == truths[sample.question]()


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.picture.stem)
def test_the_picture_is_the_scene(sample: Sample) -> None:
    drawn = draw(SCENES[sample.picture.stem])
    assert ImageChops.difference(open_picture(sample.picture).image, drawn).getbbox() is None
