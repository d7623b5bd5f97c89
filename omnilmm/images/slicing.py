"""Plan the slicing of a picture: pure integers in, pure integers out.

A picture larger than `scale_resolution`² pixels is encoded twice: once whole, shrunk to about that area (the
*overview*), and once resized and split into a grid of *slices* of about that area each, so that small print stays
readable. All sizes are (width, height) in pixels, grids are (columns, rows), boxes are (left, top, right, bottom).

Source: the slicing rules shared by MiniCPM-V 2.0, 2.5 and 2.6 (LLaVA-UHD, https://arxiv.org/abs/2403.11703), checked
against 102 sizes in `tests/golden/slicing.json`. Truncation and rounding (half to even) are part of the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Size = tuple[int, int]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class SlicingRules:
    """Slicing parameters of a checkpoint."""

    max_slices: int = 9
    scale_resolution: int = 448
    patch_size: int = 14


@dataclass(frozen=True)
class SlicePlan:
    """Slicing plan of one picture: `overview` always, the rest only if the picture is large enough to be sliced."""

    overview: Size
    grid: Size | None = None
    refined: Size | None = None

    @property
    def slice_size(self) -> Size | None:
        """Size of each slice; all slices of one picture have the same size."""
        if self.grid is None or self.refined is None:
            return None
        return self.refined[0] // self.grid[0], self.refined[1] // self.grid[1]

    @property
    def boxes(self) -> list[Box]:
        """Boxes of the slices in the refined picture, row by row, left to right."""
        if self.grid is None or self.slice_size is None:
            return []
        (columns, rows), (w, h) = self.grid, self.slice_size
        return [(c * w, r * h, (c + 1) * w, (r + 1) * h) for r in range(rows) for c in range(columns)]

    @property
    def sizes(self) -> list[Size]:
        """Sizes of all views in the order of the model's input, overview first."""
        return [self.overview] + [(right - left, bottom - top) for left, top, right, bottom in self.boxes]


def plan_slices(size: Size, rules: SlicingRules) -> SlicePlan:
    """Plan the overview and the slices of a picture.

    Args:
        size: (width, height) of the picture, at least 1×1.
        rules: slicing parameters of the checkpoint.
    """
    width, height = size
    area_ratio = width * height / rules.scale_resolution**2
    wanted = min(math.ceil(area_ratio), rules.max_slices)
    if wanted <= 1:
        return SlicePlan(overview=_fit(size, rules, enlarge=True))
    columns, rows = _choose_grid(size, wanted, rules.max_slices)
    cell = (_to_multiple(width, columns) / columns, _to_multiple(height, rows) / rows)
    w, h = _fit(cell, rules, enlarge=True)
    return SlicePlan(overview=_fit(size, rules, enlarge=False), grid=(columns, rows), refined=(w * columns, h * rows))


def _choose_grid(size: Size, wanted: int, max_slices: int) -> Size:
    """Return the grid of about `wanted` cells whose aspect ratio is closest to the picture's; the first on a tie."""
    log_ratio = math.log(size[0] / size[1])
    counts = [n for n in (wanted - 1, wanted, wanted + 1) if n != 1 and n <= max_slices]
    grids = [(columns, n // columns) for n in counts for columns in range(1, n + 1) if n % columns == 0]
    return min(grids, key=lambda grid: abs(log_ratio - math.log(grid[0] / grid[1])))


def _fit(size: tuple[float, float], rules: SlicingRules, *, enlarge: bool) -> Size:
    """Fit a size to about `scale_resolution`² pixels, keeping the aspect ratio; both sides are patch-size multiples."""
    width, height = size
    if enlarge or width * height > rules.scale_resolution**2:
        ratio = width / height
        height = int(rules.scale_resolution / math.sqrt(ratio))
        width = int(height * ratio)
    return _to_multiple(width, rules.patch_size), _to_multiple(height, rules.patch_size)


def _to_multiple(length: float, unit: int) -> int:
    return max(round(length / unit) * unit, unit)
