"""A video as one picture: some or all of its frames side by side, each with its time."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from PIL import Image, ImageDraw, ImageFont

from omnilmm.conversation import Video
from omnilmm.images.video_sampling import spread

MOST_FRAMES = 6  # of a sheet
_WIDTH, _LINE, _GAP = 118, 16, 2  # of a frame, of the line with its time, and between frames, in pixels
_COLUMNS = 6

_sheets: WeakKeyDictionary[Video, Image.Image] = WeakKeyDictionary()


def sheet(video: Video) -> Image.Image:
    """A few frames of a video, evenly chosen; made once."""
    if video not in _sheets:
        count = len(video.frames)
        _sheets[video] = strip(video, spread(count, min(count, MOST_FRAMES)))
    return _sheets[video]


def strip(video: Video, places: Sequence[int]) -> Image.Image:
    """Frames of a video in rows, with their times.

    Args:
        video: whose frames.
        places: which of them, in `Video.frames`.
    """
    width, height = video.frames[0].image.size
    high = max(min(round(_WIDTH * height / width), 2 * _WIDTH), 1)
    columns = min(len(places), _COLUMNS)
    rows = -(-len(places) // columns)
    across, down = _WIDTH + _GAP, high + _LINE + _GAP
    whole = Image.new("RGB", (columns * across - _GAP, rows * down - _GAP), "black")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    for number, place in enumerate(places):
        left, top = number % columns * across, number // columns * down
        whole.paste(video.frames[place].image.resize((_WIDTH, high)), (left, top))
        pen.text((left + _WIDTH // 2, top + high + 2), clock(video.times_s[place]), "white", font, anchor="mt")
    return whole


def clock(time_s: float) -> str:
    """Minutes, seconds and tenths; of a long video hours, minutes and seconds."""
    minutes, seconds = divmod(time_s, 60)
    if minutes < 60:
        return f"{int(minutes)}:{seconds:04.1f}"
    return f"{int(minutes // 60)}:{int(minutes % 60):02}:{int(seconds):02}"
