"""Copies of pictures with overlays: the slices that a model sees, or the regions of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from omnilmm.conversation import Picture
from omnilmm.engine.events import PictureSlice
from omnilmm.ui.boxes import COLOURS, Kind, Point, Region, colours, names

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Pillow's own font has Latin letters only; these come with Linux, macOS and Windows.
FONTS = ("NotoSansCJK-Regular.ttc", "NotoSerifCJK-Bold.ttc", "wqy-microhei.ttc", "PingFang.ttc", "msyh.ttc")
_LONGER_SIDE = 720  # longer side in pixels of a picture drawn with slices
_LINE, _FILL = (255, 255, 255), (0, 0, 0, 150)


def with_slices(picture: Picture, slices: tuple[PictureSlice, ...] | None) -> Image.Image:
    """Return a copy of the picture with its slices framed and numbered in the order in which the model sees them.

    Args:
        picture: a picture of a message.
        slices: from `Engine.slices`, overview first; None draws nothing.
    """
    image = picture.image.convert("RGB")
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    across, down = image.width / picture.image.width, image.height / picture.image.height
    pen = ImageDraw.Draw(image, "RGBA")
    for number, part in enumerate((slices or ())[1:], 1):
        left, top, right, bottom = part.box
        frame = (left * across, top * down, right * across - 1, bottom * down - 1)
        pen.rectangle(frame, outline=(0, 0, 0, 200), width=4)
        pen.rectangle(frame, outline=_LINE, width=2)
        _tag(pen, str(number), frame[0] + 6, frame[1] + 6, font_pixels=max(12, min(image.size) / 22))
    return image


def _tag(pen: ImageDraw.ImageDraw, text: str, x: float, y: float, font_pixels: float) -> None:
    font = ImageFont.load_default(font_pixels)
    left, top, right, bottom = pen.textbbox((x + 4, y + 3), text, font)
    pen.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=_FILL)
    pen.text((x + 4, y + 3), text, _LINE, font)


def with_regions(image: Image.Image, marked: Sequence[Region]) -> Image.Image:
    """Return a copy of the picture with the regions drawn on it, each with its colour and name."""
    image = image.convert("RGB")
    pen = ImageDraw.Draw(image)
    unit = (image.width * image.height) ** 0.5
    line = max(2, round(unit / 150))
    for number, (region, name, colour) in enumerate(zip(marked, names(marked), colours(marked), strict=True), 1):
        points = [(x * (image.width - 1), y * (image.height - 1)) for x, y in region.points]
        _outline(pen, region.kind, points, COLOURS[colour], line)
        shown, font = _legible(name, str(number), max(11, unit / 28))
        _name(pen, shown, min(points, key=lambda point: point[1]), COLOURS[colour], font, image.size)
    return image


def _legible(name: str, number: str, size: float) -> tuple[str, Font]:
    """Return the name and a font that has its letters; if this machine has none, the number instead of the name."""
    plain = ImageFont.load_default(size)
    if name.isascii():
        return name, plain
    for file in FONTS:
        try:
            return name, ImageFont.truetype(file, size)
        except OSError:
            continue
    return number, plain


def _outline(pen: ImageDraw.ImageDraw, kind: Kind, points: list[Point], colour: str, line: int) -> None:
    """Draw the outline in its colour, with a thin white border that is visible on any background."""
    for wide, ink in ((line + 2, "white"), (line, colour)):
        if kind == "point":
            reach = 2 * line + wide
            (x, y) = points[0]
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=ink)
        elif kind == "box":
            (left, top), (right, bottom) = points
            pen.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], ink, wide, "curve")
        else:
            pen.line([*points, points[0]], ink, wide, "curve")


def _name(
    pen: ImageDraw.ImageDraw,
    name: str,
    at: Point,
    colour: str,
    font: Font,
    size: tuple[int, int],
) -> None:
    """Draw a name tag above the point, moved so that it lies inside the picture."""
    left, top, right, bottom = pen.textbbox((0, 0), name, font)
    wide, high = right - left + 8, bottom - top + 6
    x = min(max(at[0], 0), max(size[0] - wide, 0))
    y = at[1] - high if at[1] >= high else min(at[1], max(size[1] - high, 0))
    pen.rectangle((x, y, x + wide, y + high), fill=colour)
    pen.text((x + 4 - left, y + 3 - top), name, "white", font)
