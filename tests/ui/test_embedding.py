"""Pictures as a page shows them: made smaller for it, while the person's own stays as it is."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from omnilmm.ui.embedding import data_address, jpeg


@pytest.mark.parametrize(("size", "shown"), [((400, 100), (200, 50)), ((100, 400), (50, 200)), ((200, 40), (200, 40))])
def test_what_is_shown_is_a_smaller_copy(size: tuple[int, int], shown: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 50).convert("RGB")
    before = image.tobytes()
    content = jpeg(image, pixels=200)
    assert Image.open(io.BytesIO(content)).size == shown
    assert image.size == size and image.tobytes() == before
    kind, _, encoded = data_address(image, 200).partition(",")
    assert kind == "data:image/jpeg;base64" and base64.b64decode(encoded) == content
