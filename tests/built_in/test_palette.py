"""What is drawn can be told from what is behind it, and colours from each other."""

import math
import random

from built_in.palette import COLOURS, Background, lab, shade, visible_colours
from built_in.scenes import Scene


def test_everything_stands_out_from_its_background(scenes: list[Scene]) -> None:
    for scene in scenes:
        behind = [lab(scene.background.first), lab(scene.background.second)]
        printed_on = [lab(panel.rgb) for panel in scene.panels] or behind
        assert all(math.dist(lab(shape.rgb), other) > 25 for shape in scene.shapes for other in behind)
        assert all(math.dist(lab(label.rgb), other) > 25 for label in scene.labels for other in printed_on)


def test_print_differs_in_lightness(scenes: list[Scene]) -> None:
    for scene in scenes:
        behind = [panel.rgb for panel in scene.panels] or [scene.background.first, scene.background.second]
        assert all(abs(lab(label.rgb)[0] - lab(other)[0]) > 12 for label in scene.labels for other in behind)


def test_shades_of_two_colours_are_further_apart_than_those_of_one() -> None:
    rng = random.Random(1)
    shades = {colour: [lab(shade(colour, rng)) for _ in range(60)] for colour in COLOURS}
    middles = {colour: tuple(sum(part) / 60 for part in zip(*some, strict=True)) for colour, some in shades.items()}
    for colour, some in shades.items():
        for one in some:
            assert min(middles, key=lambda name: math.dist(middles[name], one)) == colour


def test_lab_is_the_published_one() -> None:
    """Red, and mid grey, of sRGB in CIE L*a*b* under D65."""
    assert math.dist(lab((255, 0, 0)), (53.24, 80.09, 67.20)) < 0.3
    assert math.dist(lab((119, 119, 119)), (50.03, 0.0, 0.0)) < 0.3


def test_no_colour_is_painted_on_itself() -> None:
    white = Background("plain", (255, 255, 255), (255, 255, 255), 0.0, 9.0)
    assert "white" not in visible_colours(white) and "black" in visible_colours(white)
    assert set(visible_colours(white, lightness_step=45)) < set(visible_colours(white))
