"""Slices are planned as published, and every plan is usable whatever the picture and the rules."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnilmm.images.slicing import Size, SlicePlan, SlicingRules, plan_slices

sides = st.one_of(st.integers(1, 20_000), st.integers(1, 600))
sizes = st.tuples(sides, sides)
rules = st.builds(
    SlicingRules,
    max_slices=st.integers(1, 16),
    scale_resolution=st.sampled_from([28, 70, 112, 224, 448, 980]),
    patch_size=st.sampled_from([7, 14, 16]),
)


@pytest.mark.parametrize(
    ("size", "overview", "grid", "refined", "slice_size"),
    [
        ((448, 448), (448, 448), None, None, None),
        ((100, 100), (448, 448), None, None, None),  # enlarged
        ((449, 448), (448, 448), (2, 1), (644, 630), (322, 630)),
        ((500, 500), (448, 448), (1, 2), (630, 644), (630, 322)),  # a tie, decided by rounding of log
        ((640, 480), (518, 392), (2, 1), (728, 546), (364, 546)),
        ((800, 600), (518, 392), (2, 2), (1036, 784), (518, 392)),
        ((896, 448), (630, 322), (2, 1), (896, 448), (448, 448)),
        ((1120, 1120), (448, 448), (3, 2), (1092, 1092), (364, 546)),
        ((1280, 720), (602, 336), (3, 2), (1470, 812), (490, 406)),
        ((1344, 1344), (448, 448), (3, 3), (1344, 1344), (448, 448)),
        ((1920, 1080), (602, 336), (4, 2), (1680, 952), (420, 476)),
        ((1080, 1920), (336, 602), (2, 4), (952, 1680), (476, 420)),
        ((2048, 512), (896, 224), (5, 1), (2030, 504), (406, 504)),
        ((3000, 4000), (392, 518), (3, 3), (1176, 1554), (392, 518)),
        ((30, 2000), (56, 3654), None, None, None),  # long, but not large
    ],
)
def test_published_rules_cut_as_published(
    size: Size, overview: Size, grid: Size | None, refined: Size | None, slice_size: Size | None
) -> None:
    plan = plan_slices(size, SlicingRules())
    assert (plan.overview, plan.grid, plan.refined, plan.slice_size) == (overview, grid, refined, slice_size)


def test_boxes_run_row_by_row() -> None:
    plan = plan_slices((800, 600), SlicingRules())
    assert plan.boxes == [(0, 0, 518, 392), (518, 0, 1036, 392), (0, 392, 518, 784), (518, 392, 1036, 784)]
    assert plan.sizes == [(518, 392)] * 5


@given(sizes, rules)
@example((1, 20_000), SlicingRules())
@example((20_000, 1), SlicingRules())
@example((20_000, 20_000), SlicingRules())
@example((1, 1), SlicingRules())
@example((1, 20_000), SlicingRules(9, 70, 14))  # the truncated height becomes 0
def test_every_side_is_a_positive_multiple_of_the_patch(size: Size, rules: SlicingRules) -> None:
    plan = plan_slices(size, rules)
    for width, height in plan.sizes:
        assert width > 0 and height > 0
        assert width % rules.patch_size == 0 and height % rules.patch_size == 0


@given(sizes, rules)
def test_never_more_slices_than_allowed(size: Size, rules: SlicingRules) -> None:
    plan = plan_slices(size, rules)
    assert len(plan.boxes) <= rules.max_slices
    assert len(plan.sizes) == 1 + len(plan.boxes)
    assert plan.grid is None or math.prod(plan.grid) == len(plan.boxes) > 1


@given(sizes, rules)
def test_boxes_tile_the_refined_picture_exactly(size: Size, rules: SlicingRules) -> None:
    plan = plan_slices(size, rules)
    if plan.refined is None:
        assert plan.boxes == [] and plan.grid is None and plan.slice_size is None
        return
    width, height = plan.refined
    assert len({(right - left, bottom - top) for left, top, right, bottom in plan.boxes}) == 1
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in plan.boxes)
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in plan.boxes) == width * height
    assert not any(_overlap(a, b) for number, a in enumerate(plan.boxes) for b in plan.boxes[:number])


@given(st.integers(1, 448), st.integers(1, 448))
def test_a_small_picture_is_never_cut(width: int, height: int) -> None:
    assert plan_slices((width, height), SlicingRules()).grid is None


@given(sizes)
def test_without_slices_only_the_overview_is_seen(size: Size) -> None:
    assert plan_slices(size, SlicingRules(max_slices=1)).grid is None


@given(sizes.filter(lambda size: 1 / 4 <= size[0] / size[1] <= 4))
def test_every_view_of_an_ordinary_picture_has_about_the_same_area(size: Size) -> None:
    """The features per view are few and of a fixed number, so a view must not be much larger than the tower's own."""
    plan: SlicePlan = plan_slices(size, SlicingRules())
    assert all(0.8 <= width * height / 448**2 <= 1.25 for width, height in plan.sizes)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
