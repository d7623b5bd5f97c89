"""A scene is drawn the same each time, and everything where the scene says."""

from dataclasses import replace

import numpy as np

from omnilmm.training.drawing import draw
from omnilmm.training.scenes import Scene
from tests.training.ink import ink


def test_same_scene_same_pixels(scenes: list[Scene]) -> None:
    for scene in scenes[:30]:
        picture = draw(scene)
        assert picture.tobytes() == draw(scene).tobytes()
        assert picture.size == (scene.width, scene.height)
        assert picture.mode == "RGB"


def test_shape_ink_lies_within_its_circle_and_reaches_it(scenes: list[Scene]) -> None:
    for scene in scenes[:150]:
        for shape in scene.shapes[:2]:
            drawn = ink(replace(scene, shapes=(shape,), label=None)) > 0.5
            ys, xs = np.nonzero(drawn)
            distances = np.hypot(xs + 0.5 - shape.x, ys + 0.5 - shape.y)
            assert shape.radius - 3 < distances.max() < shape.radius + 1.5


def test_characters_are_drawn_in_their_boxes(scenes: list[Scene]) -> None:
    for scene in [scene for scene in scenes if scene.label][:80]:
        assert scene.label is not None
        drawn = ink(replace(scene, shapes=())) > 0
        outside = drawn.copy()
        for left, top, right, bottom in scene.label.boxes:
            box = drawn[int(top) : int(bottom), int(left) : int(right)]
            assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()
            outside[int(top) : int(bottom), int(left) : int(right)] = False
        assert not outside.any()
