"""Where a scene is drawn upon, as the pixels tell."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from omnilmm.training.drawing import draw
from omnilmm.training.palette import Background
from omnilmm.training.scenes import Scene


def clean(scene: Scene) -> Scene:
    """The same things, black on plain white without any blur, so that ink can be told from background."""
    return replace(
        scene,
        background=Background("plain", (255, 255, 255), (255, 255, 255), 0.0, 10.0),
        shapes=tuple(replace(shape, rgb=(0, 0, 0)) for shape in scene.shapes),
        label=replace(scene.label, rgb=(0, 0, 0)) if scene.label else None,
        blur=0.0,
        noise=0.0,
        jpeg=0,
    )


def ink(scene: Scene) -> NDArray[np.float64]:
    """Share [H, W] of each pixel that is drawn upon."""
    return 1 - np.asarray(draw(clean(scene)), dtype=np.float64)[..., 0] / 255


def ink_of_patches(scene: Scene, rows: int, columns: int) -> NDArray[np.float64]:
    """Mean ink [R*C]; patches are enlarged to whole pixels first, where they are not."""
    fine = np.repeat(np.repeat(ink(scene), rows, axis=0), columns, axis=1)
    return np.asarray(fine.reshape(rows, scene.height, columns, scene.width).mean(axis=(1, 3)).ravel())
