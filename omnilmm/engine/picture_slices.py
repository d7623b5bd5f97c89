"""A slicing plan as the slices of a picture, in the picture's own pixels."""

from __future__ import annotations

from omnilmm.engine.events import PictureSlice
from omnilmm.images.slicing import Size, SlicePlan


def picture_slices(plan: SlicePlan, size: Size, tokens: int) -> tuple[PictureSlice, ...]:
    """Return the overview, then the slices of the resized picture.

    Args:
        plan: the slicing plan.
        size: (width, height) of the picture.
        tokens: number of tokens of each of them.
    """
    width, height = size
    wide, high = plan.refined or size
    boxes = [(0, 0, wide, high), *plan.boxes]
    return tuple(
        PictureSlice((x0 * width / wide, y0 * height / high, x1 * width / wide, y1 * height / high), *view, tokens)
        for (x0, y0, x1, y1), view in zip(boxes, plan.sizes, strict=True)
    )
