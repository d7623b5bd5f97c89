"""What is drawn can be told from what is behind it."""

import math

from omnilmm.training.palette import lab
from omnilmm.training.scenes import Scene


def test_everything_stands_out_from_its_background(scenes: list[Scene]) -> None:
    for scene in scenes:
        behind = [lab(scene.background.first), lab(scene.background.second)]
        colours = [shape.rgb for shape in scene.shapes] + ([scene.label.rgb] if scene.label else [])
        assert all(math.dist(lab(rgb), other) > 25 for rgb in colours for other in behind)
