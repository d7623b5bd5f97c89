"""How llama.cpp cuts pictures for MiniCPM-V, which differs from the published code.

| | published (`omnilmm.images.slicing`) | llama.cpp |
|---|---|---|
| sliced if | the area exceeds that of a slice | a side exceeds that of a slice |
| not sliced | keeps its proportions | is resized to a square |
| the refined picture | is stretched to the grid | keeps its proportions, black bars fill the rest |
| rounding | double, half to even | float32, half away from zero |

Source: `mtmd_image_preprocessor_llava_uhd` in llama.cpp's tools/mtmd/mtmd-image.cpp, 2026-10; checked against the
prompt tokens that llama.cpp counts (tests/engine/llamacpp/test_slicing.py).
"""

from __future__ import annotations

import math

import numpy as np

from omnilmm.engine.events import PictureSlice
from omnilmm.images.slicing import Size, SlicePlan

MOST = 9  # slices, fixed in llama.cpp
F = np.float32


def plan(size: Size, slice_size: int, patch_size: int) -> SlicePlan:
    """Plan the overview and the slices of a picture.

    Args:
        size: (width, height) of the picture.
        slice_size: `clip.vision.image_size` of the mmproj file.
        patch_size: `clip.vision.patch_size`.
    """
    width, height = size
    if width <= slice_size and height <= slice_size:
        return SlicePlan(overview=(slice_size, slice_size))
    area = slice_size * slice_size
    wanted = min(math.ceil(F(width) * F(height) / F(area)), MOST)
    columns, rows = _grid(math.log(F(width) / F(height)), wanted)
    cell = (_multiple(width, columns) // columns, _multiple(height, rows) // rows)
    w, h = _fit(cell, slice_size, patch_size, enlarge=True)
    overview = _fit(size, slice_size, patch_size, enlarge=False)
    return SlicePlan(overview, (columns, rows), (w * columns, h * rows))


def slices(size: Size, slice_size: int, patch_size: int, queries: int) -> tuple[PictureSlice, ...]:
    """Return the views of a picture for drawing, overview first; bars around a slice are left out of its box.

    Args:
        size: (width, height) of the picture.
        slice_size: as for `plan`.
        patch_size: as for `plan`.
        queries: features of each view.
    """
    planned = plan(size, slice_size, patch_size)
    whole = PictureSlice((0.0, 0.0, float(size[0]), float(size[1])), *planned.overview, queries)
    if planned.refined is None:
        return (whole,)
    scale = min(planned.refined[0] / size[0], planned.refined[1] / size[1])
    left, top = ((planned.refined[axis] - math.ceil(size[axis] * scale)) // 2 for axis in (0, 1))
    found = [whole]
    for box in planned.boxes:
        inside = tuple(
            min(max((edge - (left, top)[axis % 2]) / scale, 0.0), float(size[axis % 2]))
            for axis, edge in enumerate(box)
        )
        found.append(
            PictureSlice((inside[0], inside[1], inside[2], inside[3]), *(planned.slice_size or (0, 0)), queries)
        )
    return tuple(found)


def _grid(log_ratio: float, wanted: int) -> Size:
    counts = [n for n in (wanted - 1, wanted, wanted + 1) if 1 < n <= MOST]
    grids = [(columns, n // columns) for n in counts for columns in range(1, n + 1) if n % columns == 0]
    return min(grids, key=lambda grid: F(abs(F(log_ratio) - math.log(grid[0] / grid[1]))))


def _fit(size: Size, slice_size: int, patch_size: int, *, enlarge: bool) -> Size:
    width, height = size
    if enlarge or width * height > slice_size * slice_size:
        ratio = F(width) / F(height)
        height = int(F(slice_size) / np.sqrt(ratio))
        width = int(F(height) * ratio)
    return _multiple(width, patch_size), _multiple(height, patch_size)


def _multiple(length: int, unit: int) -> int:
    return max(math.floor(float(F(length) / F(unit)) + 0.5) * unit, unit)
