"""NativeBackend: the slices that it reports for a picture are those that the model is given."""

from __future__ import annotations

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.backends.native import NativeBackend
from tests.models.tiny import VERSIONS, tiny_model, tiny_processor

SIZES = [(100, 80), (400, 400), (290, 60), (33, 170)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("version", VERSIONS)
def test_reported_slices_are_those_that_the_model_is_given(version: str, size: tuple[int, int]) -> None:
    processor = tiny_processor(version)
    backend = NativeBackend(tiny_model(version), processor)
    picture = Picture(Image.new("RGB", size))
    reported = backend.slices(picture)
    _, patches = processor.pixel_values([picture])
    side = processor.config.vision_config.patch_size
    assert [(one.height // side, one.width // side) for one in reported] == [tuple(row) for row in patches.tolist()]
    prompt = processor.prompt(Conversation().with_message("user", picture, "What?"))
    assert sum(one.tokens for one in reported) == sum(prompt.image_slots)
    assert reported[0].box == (0, 0, *size)
    slices = reported[1:]
    if slices:  # they tile the picture
        area = sum((s.box[2] - s.box[0]) * (s.box[3] - s.box[1]) for s in slices)
        assert area == pytest.approx(size[0] * size[1])
        assert max(s.box[2] for s in slices) == pytest.approx(size[0])
        assert max(s.box[3] for s in slices) == pytest.approx(size[1])
