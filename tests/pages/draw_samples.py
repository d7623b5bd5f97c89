"""Draws the sample pictures of the page: `python -m tests.pages.draw_samples` writes `assets/samples/*.png`.

The pictures are drawn by the generator that the built-in model learns from, from scenes composed by hand, so that the
right answer to each sample question is certain. What is asked stands in `assets/samples/samples.yaml`.
"""

import math
from pathlib import Path

from built_in.drawing import draw
from built_in.palette import RGB, Background
from built_in.printing import Label, printed_at
from built_in.scenes import Scene, Shape

FOLDER = Path(__file__).parents[2] / "assets" / "samples"
WIDTH, HEIGHT = 186, 145  # small enough for no slices

RED, GREEN, BLUE, YELLOW = (214, 32, 30), (38, 153, 55), (33, 92, 204), (245, 224, 34)
PURPLE, PINK, ORANGE, BLACK = (110, 43, 153), (250, 130, 180), (247, 129, 17), (18, 17, 17)
SAND, MIST, MINT, SKY = (247, 240, 226), (238, 241, 245), (229, 243, 233), (222, 234, 247)


def scene(background: Background, *shapes: Shape, label: Label | None = None) -> Scene:
    """A scene without blur, noise or compression."""
    return Scene(WIDTH, HEIGHT, background, (), shapes, (label,) if label else (), seed=1)


def shape(kind: str, colour: str, rgb: RGB, x: float, y: float, radius: float, angle: float) -> Shape:
    """A shape whose word for its size follows from its radius, as in the training pictures."""
    share = radius / math.sqrt(WIDTH * HEIGHT)
    size = "small" if share < 0.1 else "medium" if share < 0.16 else "large"
    return Shape(kind, colour, size, x, y, radius, angle, rgb)


def printed(text: str, font: str, colour: str, rgb: RGB, x: float, y: float, height: float) -> Label:
    """A printed text around the centre of its ink."""
    box = printed_at(text, font, height, 0, 0, colour, rgb).box
    return printed_at(text, font, height, x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2, colour, rgb)


def plain(rgb: tuple[int, int, int]) -> Background:
    """One colour everywhere."""
    return Background("plain", rgb, rgb, 0.0, 30.0)


SCENES = {
    "circle": scene(plain(SAND), shape("circle", "red", RED, 92, 73, 40, 0.0)),
    "stars": scene(
        Background("gradient", SKY, (196, 216, 240), 1.2, 15.0),
        shape("star", "blue", BLUE, 42, 44, 30, -0.2),
        shape("star", "blue", BLUE, 142, 42, 30, -0.1),
        shape("star", "blue", BLUE, 92, 103, 30, -0.12),
    ),
    "heart": scene(
        Background("dots", MIST, (226, 231, 238), 0.5, 13.0),
        shape("heart", "pink", PINK, 57, 68, 35, 0.08),
        shape("square", "green", GREEN, 134, 82, 31, 0.15),
    ),
    "triangle": scene(
        plain(MINT),
        shape("triangle", "purple", PURPLE, 58, 76, 37, -0.17),
        shape("circle", "orange", ORANGE, 143, 64, 33, 0.0),
    ),
    "word": scene(plain((28, 34, 44)), label=printed("SUN", "DejaVuSans-Bold", "yellow", YELLOW, 93, 72, 31)),
    "picture": scene(
        Background("stripes", (250, 246, 238), (243, 236, 222), 0.6, 17.0),
        shape("cross", "black", BLACK, 55, 73, 34, 0.1),
        shape("star", "red", RED, 132, 72, 36, -0.05),
    ),
    "corner": scene(
        Background("gradient", (252, 238, 224), (250, 220, 214), 0.7, 15.0),
        shape("star", "orange", ORANGE, 153, 32, 24, 0.2),
        shape("circle", "purple", PURPLE, 48, 101, 30, 0.0),
    ),
    "size": scene(
        Background("dots", (250, 246, 238), (240, 232, 214), 0.4, 14.0),
        shape("heart", "red", RED, 62, 72, 42, -0.05),
        shape("cross", "green", GREEN, 142, 78, 14, 0.1),
    ),
    "missing": scene(
        Background("dots", SKY, (205, 224, 242), 0.4, 15.0),
        shape("heart", "red", RED, 129, 50, 32, -0.1),
        shape("square", "blue", BLUE, 50, 96, 30, 0.3),
    ),
    "left": scene(
        plain(MIST),
        shape("square", "orange", ORANGE, 50, 74, 33, 0.05),
        shape("star", "green", GREEN, 136, 72, 36, 0.1),
    ),
    "box": scene(
        Background("gradient", (252, 238, 224), (250, 220, 214), 0.7, 15.0),
        shape("square", "purple", PURPLE, 133, 83, 39, 0.13),
        shape("triangle", "blue", BLUE, 44, 70, 32, 0.04),
    ),
}


if __name__ == "__main__":
    for name, drawn in SCENES.items():
        draw(drawn).save(FOLDER / f"{name}.png", optimize=True)
