"""What the model sees: the slices of a picture as a grid over it."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from omnilmm.conversation import Picture
from omnilmm.engine.events import PictureSlice

_LONGER_SIDE = 720  # of the drawing, in pixels
_LINE, _FILL = (255, 255, 255), (0, 0, 0, 150)


def drawn(picture: Picture, views: tuple[PictureSlice, ...] | None) -> Image.Image:
    """A copy of the picture, the slices framed and numbered in the order in which the model sees them.

    Args:
        picture: of a message.
        views: as the engine tells them (`Engine.slices`), overview first; only the picture where it does not.
    """
    image = picture.image.convert("RGB")
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    across, down = image.width / picture.image.width, image.height / picture.image.height
    pen = ImageDraw.Draw(image, "RGBA")
    for number, view in enumerate((views or ())[1:], 1):
        left, top, right, bottom = view.box
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
