"""Where a scene is drawn upon, as the pixels tell."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from built_in.drawing import draw
from built_in.palette import Background
from built_in.scenes import Scene

WHITE = Background("plain", (255, 255, 255), (255, 255, 255), 0.0, 10.0)


def clean(scene: Scene) -> Scene:
    """The same things, black on plain white without any blur, so that ink can be told from background."""
    return replace(
        scene,
        background=WHITE,
        panels=tuple(replace(panel, rgb=(0, 0, 0)) for panel in scene.panels),
        shapes=tuple(replace(shape, rgb=(0, 0, 0)) for shape in scene.shapes),
        labels=tuple(replace(label, rgb=(0, 0, 0)) for label in scene.labels),
        blur=0.0,
        noise=0.0,
        jpeg=0,
    )


def ink(scene: Scene) -> NDArray[np.float64]:
    """Share [H, W] of each pixel that is drawn upon."""
    return 1 - np.asarray(draw(clean(scene)), dtype=np.float64)[..., 0] / 255


def box_of_ink(scene: Scene) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of all that is drawn."""
    ys, xs = np.nonzero(ink(scene) > 0.5)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def of_patches(values: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Mean [R*C] over each patch; a pixel on the border of two counts in each with its part."""
    height, width = values.shape
    return np.asarray(_parts(height, rows) @ values @ _parts(width, columns).T).ravel()


def _parts(length: int, count: int) -> NDArray[np.float64]:
    """Share [count, length] of each interval that each pixel makes up."""
    edges, pixels = np.linspace(0, length, count + 1)[:, None], np.arange(length)[None, :]
    shared = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.asarray(shared.clip(0, None) * count / length)


def ink_of_patches(scene: Scene, rows: int, columns: int) -> NDArray[np.float64]:
    """Mean ink [R*C] of a whole picture's patches."""
    return of_patches(ink(scene), rows, columns)
