"""The slices that are shown for llama.cpp are its own: there are as many as it has tokens for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omnilmm.conversation import Conversation
from omnilmm.engine.llamacpp.engine import LlamaCppEngine
from omnilmm.engine.llamacpp.slicing import plan, slices
from omnilmm.engine.loading import load_engine
from omnilmm.engine.options import Greedy
from omnilmm.export.to_gguf import Exported
from omnilmm.images.pixels import open_picture
from omnilmm.images.slicing import SlicingRules, plan_slices

SIDES = st.integers(1, 3000)


def test_plans() -> None:
    assert plan((100, 50), 168, 12).sizes == [(168, 168)], (
        "a small picture is resized to a square, whatever its aspect ratio"
    )
    assert plan((186, 145), 168, 12).grid == (2, 1), "one side is longer than a slice"
    assert plan_slices((186, 145), SlicingRules(9, 168, 12)).grid is None
    assert plan((336, 168), 168, 12).sizes == plan_slices((336, 168), SlicingRules(9, 168, 12)).sizes
    assert plan((1344, 1344), 448, 14).grid == (3, 3)


@given(SIDES, SIDES)
def test_a_larger_picture_than_a_slice_has_the_published_grid(width: int, height: int) -> None:
    rules = SlicingRules(9, 448, 14)
    published, theirs = plan_slices((width, height), rules), plan((width, height), 448, 14)
    if published.grid is not None and abs(width * height / 448**2 % 1) > 0.001:
        assert theirs.grid is not None
        assert theirs.grid[0] * theirs.grid[1] in range(2, 10)


@given(SIDES, SIDES)
def test_boxes_lie_within_the_picture(width: int, height: int) -> None:
    views = slices((width, height), 448, 14, 64)
    assert views[0].box == (0, 0, width, height)
    for view in views:
        left, top, right, bottom = view.box
        assert 0 <= left <= right <= width and 0 <= top <= bottom <= height
        assert view.width % 14 == view.height % 14 == 0


@pytest.fixture(scope="module")
def engine(exported: Exported) -> LlamaCppEngine:
    found = load_engine(str(exported.model))
    assert isinstance(found, LlamaCppEngine)
    return found


SIZES = ((20, 30), (168, 168), (169, 20), (186, 145), (500, 100), (336, 336), (640, 480), (900, 700), (100, 1200))


@pytest.mark.parametrize("size", SIZES)
def test_llama_cpp_counts_the_tokens_of_these_views(engine: LlamaCppEngine, size: tuple[int, int]) -> None:
    """Around the features are a pair of tokens for each view, and a line break between rows."""
    picture = open_picture(Image.new("RGB", size, "white"))
    options = Greedy(max_new_tokens=1)
    *_, plain = engine.stream(Conversation().with_message("user", "Hi"), options)
    *_, seen = engine.stream(Conversation().with_message("user", picture, "Hi"), options)
    views = engine.slices(picture)
    assert views is not None
    grid = plan(size, 168, 12).grid
    number = 4 + 1  # `<image_id>0</image_id>`, and the line break after the picture
    around = number - 1 + 2 * len(views) + (grid[1] - 1 if grid else 0)
    assert seen.usage.picture_tokens == 36 * len(views)  # type: ignore[union-attr]
    assert seen.usage.text_tokens - plain.usage.text_tokens == around  # type: ignore[union-attr]
