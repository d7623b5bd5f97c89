"""Draws the sample pictures of the page: `python -m tests.pages.draw_samples` writes `assets/samples/*.png`.

The pictures are drawn by the generator that the built-in model learns from, from scenes composed by hand, so that the
right answer to each sample question is certain. What is asked stands in `assets/samples/samples.yaml`.
"""

import math
from pathlib import Path

from omnilmm.training.drawing import draw
from omnilmm.training.palette import Background
from omnilmm.training.printing import Label, character_boxes
from omnilmm.training.scenes import Scene, Shape

FOLDER = Path(__file__).parents[2] / "assets" / "samples"
WIDTH, HEIGHT = 360, 280

RED, GREEN, BLUE, YELLOW = (214, 32, 30), (38, 153, 55), (33, 92, 204), (245, 224, 34)
PURPLE, PINK, ORANGE, BLACK = (110, 43, 153), (250, 130, 180), (247, 129, 17), (18, 17, 17)
SAND, MIST, MINT, SKY = (247, 240, 226), (238, 241, 245), (229, 243, 233), (222, 234, 247)


def scene(
    background: Background, shapes: tuple[Shape, ...] = (), label: Label | None = None, width: int = WIDTH
) -> Scene:
    """A scene without blur, noise or compression."""
    return Scene(width, HEIGHT, background, shapes, label, blur=0.0, noise=0.0, jpeg=0, seed=1)


def shape(kind: str, colour: str, rgb: tuple[int, int, int], x: float, y: float, radius: float, angle: float) -> Shape:
    """A shape whose word for its size follows from its radius, as in the training pictures."""
    share = radius / math.sqrt(WIDTH * HEIGHT)
    size = "small" if share < 0.1 else "medium" if share < 0.16 else "large"
    return Shape(kind, colour, size, x, y, radius, angle, rgb)


def label(text: str, font: str, colour: str, rgb: tuple[int, int, int], x: float, y: float, height: float) -> Label:
    """A printed text around the centre of its ink."""
    boxes = character_boxes(text, font, height, spacing=0.1)
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    right, down = round(x - (boxes[0][0] + boxes[-1][2]) / 2), round(y - (top + bottom) / 2)
    placed = tuple((box[0] + right, box[1] + down, box[2] + right, box[3] + down) for box in boxes)
    return Label(text, font, colour, x, y, height, rgb, placed)


def plain(rgb: tuple[int, int, int]) -> Background:
    """One colour everywhere."""
    return Background("plain", rgb, rgb, 0.0, 30.0)


SCENES = {
    "circle": scene(plain(SAND), (shape("circle", "red", RED, 178, 142, 78, 0.0),)),
    "stars": scene(
        Background("gradient", SKY, (196, 216, 240), 1.2, 30.0),
        (
            shape("star", "blue", BLUE, 104, 102, 56, -0.2),
            shape("star", "blue", BLUE, 271, 91, 56, -0.1),
            shape("star", "blue", BLUE, 168, 186, 56, -0.12),
        ),
    ),
    "heart": scene(
        Background("dots", MIST, (226, 231, 238), 0.5, 26.0),
        (shape("heart", "pink", PINK, 112, 132, 68, 0.08), shape("square", "green", GREEN, 262, 158, 60, 0.15)),
    ),
    "triangle": scene(
        plain(MINT),
        (
            shape("triangle", "purple", PURPLE, 115, 148, 72, -0.17),
            shape("circle", "orange", ORANGE, 281, 125, 65, 0.0),
        ),
    ),
    "word": scene(plain((28, 34, 44)), label=label("SUN", "DejaVuSans-Bold", "yellow", YELLOW, 180, 140, 60)),
    "picture": scene(
        Background("stripes", (250, 246, 238), (243, 236, 222), 0.6, 34.0),
        (shape("cross", "black", BLACK, 106, 142, 66, 0.1), shape("star", "red", RED, 256, 140, 70, -0.05)),
    ),
}


if __name__ == "__main__":
    for name, drawn in SCENES.items():
        draw(drawn).save(FOLDER / f"{name}.png", optimize=True)
