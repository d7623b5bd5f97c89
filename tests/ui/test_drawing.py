"""The slices are drawn where the model cuts, and told in numbers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from omnilmm.conversation import Picture
from omnilmm.engine.events import PictureSlice
from omnilmm.ui import drawing
from omnilmm.ui.texts import ENGLISH, texts_in

PICTURE = Picture(Image.new("RGB", (1440, 720), (90, 120, 150)))
VIEWS = (
    PictureSlice((0, 0, 1440, 720), 448, 224, 64),
    PictureSlice((0, 0, 720, 720), 448, 448, 64),
    PictureSlice((720, 0, 1440, 720), 448, 448, 64),
)


def test_every_slice_is_framed() -> None:
    image = drawing.with_slices(PICTURE, VIEWS)
    assert image.size == (720, 360)
    pixels = np.asarray(image)
    changed = (pixels != (90, 120, 150)).any(axis=2)
    assert changed[:, 0].all() and changed[:, 359].all() and changed[:, 360].all() and changed[0].all()
    assert not changed[300, 20:340].any()
    assert PICTURE.image.getpixel((0, 0)) == (90, 120, 150)


def test_without_slices_the_picture_is_bare() -> None:
    for views in (None, VIEWS[:1]):
        assert not (np.asarray(drawing.with_slices(PICTURE, views)) != (90, 120, 150)).any()


def test_the_line_tells_sizes_and_tokens() -> None:
    assert ENGLISH.seen_line(VIEWS) == "overview 448×224: 64 tokens · 2 slices of 448×448: 128 tokens"
    assert texts_in("zh").seen_line(VIEWS[:1]) == "全图 448×224：64 词元"
    assert ENGLISH.seen_line(VIEWS, is_assumed=True).endswith(f" · {ENGLISH.seen_as_published}")
    assert ENGLISH.seen_line(None) == ENGLISH.seen_unknown
    assert ENGLISH.seen_line(()) == ENGLISH.seen_nothing
