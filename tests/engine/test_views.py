"""What the engine tells about its looks at a picture is what the model is given."""

from __future__ import annotations

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.backends.native import NativeBackend
from tests.models.tiny import VERSIONS, tiny_model, tiny_processor

SIZES = [(100, 80), (400, 400), (290, 60), (33, 170)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("version", VERSIONS)
def test_views_are_the_slices_that_the_model_is_given(version: str, size: tuple[int, int]) -> None:
    processor = tiny_processor(version)
    reader = NativeBackend(tiny_model(version), processor)
    picture = Picture(Image.new("RGB", size))
    views = reader.slices(picture)
    _, patches = processor.pixel_values([picture])
    side = processor.config.vision_config.patch_size
    assert [(view.height // side, view.width // side) for view in views] == [tuple(row) for row in patches.tolist()]
    prompt = processor.prompt(Conversation().with_message("user", picture, "What?"))
    assert sum(view.tokens for view in views) == sum(prompt.image_slots)
    assert views[0].box == (0, 0, *size)
    slices = views[1:]
    if slices:  # they tile the picture
        area = sum((v.box[2] - v.box[0]) * (v.box[3] - v.box[1]) for v in slices)
        assert area == pytest.approx(size[0] * size[1])
        assert max(v.box[2] for v in slices) == pytest.approx(size[0])
        assert max(v.box[3] for v in slices) == pytest.approx(size[1])
