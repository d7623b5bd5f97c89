"""Draws the sample pictures of the page: `python -m tests.pages.draw_samples` writes `assets/samples/*.png`.

The pictures are drawn by the generator that the built-in model learns from, from scenes composed by hand, so that the
right answer to each sample question is certain. What is asked stands in `assets/samples/samples.yaml`.
"""

import math
from pathlib import Path

from omnilmm.training.drawing import draw
from omnilmm.training.palette import RGB, Background
from omnilmm.training.printing import Label, printed_at
from omnilmm.training.scenes import Panel, Scene, Shape

FOLDER = Path(__file__).parents[2] / "assets" / "samples"
WIDTH, HEIGHT = 360, 280
BASE, BAR = 226, 62  # of the chart: base line and width of a bar, in pixels

RED, GREEN, BLUE, YELLOW = (214, 32, 30), (38, 153, 55), (33, 92, 204), (245, 224, 34)
PURPLE, PINK, ORANGE, BLACK = (110, 43, 153), (250, 130, 180), (247, 129, 17), (18, 17, 17)
SAND, MIST, MINT, SKY = (247, 240, 226), (238, 241, 245), (229, 243, 233), (222, 234, 247)


def scene(
    background: Background,
    *shapes: Shape,
    labels: tuple[Label, ...] = (),
    panels: tuple[Panel, ...] = (),
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Scene:
    """A scene without blur, noise or compression."""
    return Scene(*size, background, panels, shapes, labels, seed=1)


def shape(kind: str, colour: str, rgb: RGB, x: float, y: float, radius: float, angle: float) -> Shape:
    """A shape whose word for its size follows from its radius, as in the training pictures."""
    share = radius / math.sqrt(WIDTH * HEIGHT)
    size = "small" if share < 0.1 else "medium" if share < 0.16 else "large"
    return Shape(kind, colour, size, x, y, radius, angle, rgb)


def label(text: str, font: str, colour: str, rgb: RGB, x: float, y: float, height: float) -> Label:
    """A printed text around the centre of its ink."""
    box = printed_at(text, font, height, 0, 0, colour, rgb).box
    return printed_at(text, font, height, x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2, colour, rgb)


def bar(colour: str, rgb: RGB, left: float, top: float) -> Panel:
    """A bar of a chart, on the base line."""
    right = left + BAR
    return Panel(((left, top), (right, top), (right, BASE), (left, BASE)), rgb, colour)


def plain(rgb: tuple[int, int, int]) -> Background:
    """One colour everywhere."""
    return Background("plain", rgb, rgb, 0.0, 30.0)


SCENES = {
    "circle": scene(plain(SAND), shape("circle", "red", RED, 178, 142, 78, 0.0)),
    "stars": scene(
        Background("gradient", SKY, (196, 216, 240), 1.2, 30.0),
        shape("star", "blue", BLUE, 104, 102, 56, -0.2),
        shape("star", "blue", BLUE, 271, 91, 56, -0.1),
        shape("star", "blue", BLUE, 168, 186, 56, -0.12),
    ),
    "heart": scene(
        Background("dots", MIST, (226, 231, 238), 0.5, 26.0),
        shape("heart", "pink", PINK, 112, 132, 68, 0.08),
        shape("square", "green", GREEN, 262, 158, 60, 0.15),
    ),
    "triangle": scene(
        plain(MINT),
        shape("triangle", "purple", PURPLE, 115, 148, 72, -0.17),
        shape("circle", "orange", ORANGE, 281, 125, 65, 0.0),
    ),
    "word": scene(plain((28, 34, 44)), labels=(label("SUN", "DejaVuSans-Bold", "yellow", YELLOW, 180, 140, 60),)),
    "picture": scene(
        Background("stripes", (250, 246, 238), (243, 236, 222), 0.6, 34.0),
        shape("cross", "black", BLACK, 106, 142, 66, 0.1),
        shape("star", "red", RED, 256, 140, 70, -0.05),
    ),
    "corner": scene(
        Background("gradient", (252, 238, 224), (250, 220, 214), 0.7, 30.0),
        shape("star", "orange", ORANGE, 296, 62, 46, 0.2),
        shape("circle", "purple", PURPLE, 92, 196, 58, 0.0),
    ),
    "chart": scene(
        plain((255, 255, 255)),
        labels=tuple(
            label(month, "DejaVuSans-Bold", "black", BLACK, x, 250, 22)
            for month, x in (("JAN", 75), ("FEB", 180), ("MAR", 285))
        ),
        panels=(
            bar("blue", BLUE, 44, 140),
            bar("orange", ORANGE, 149, 40),
            bar("green", GREEN, 254, 180),
            Panel(((16, BASE), (344, BASE), (344, BASE + 3), (16, BASE + 3)), BLACK),
        ),
    ),
    "box": scene(
        Background("dots", SKY, (205, 224, 242), 0.4, 30.0),
        shape("heart", "red", RED, 250, 96, 62, -0.1),
        shape("square", "blue", BLUE, 96, 186, 58, 0.3),
    ),
    "page": scene(
        plain((250, 249, 245)),
        labels=tuple(
            label(line, "DejaVuSans", "black", BLACK, 350, y, 11)
            for line, y in (("MUSIC", 190), ("RIVER", 240), ("2026", 290))
        ),
        size=(700, 500),
    ),
}


if __name__ == "__main__":
    for name, drawn in SCENES.items():
        draw(drawn).save(FOLDER / f"{name}.png", optimize=True)
