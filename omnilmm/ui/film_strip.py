"""A video as one picture: some or all of its frames in rows, each with its time."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from PIL import Image, ImageDraw, ImageFont

from omnilmm.conversation import Video
from omnilmm.images.video_sampling import spread

MOST_FRAMES = 6  # frames of a sheet
_WIDTH, _LINE, _GAP, _FONT = 118, 22, 2, 18  # of a frame, of the line with its time, and between frames, in pixels
COLUMNS, COLUMNS_BESIDE = 5, 3  # frames per row; where there is little room: beside the conversation, on a phone

_sheets: WeakKeyDictionary[Video, Image.Image] = WeakKeyDictionary()


def sheet(video: Video) -> Image.Image:
    """Return a picture of a few evenly spaced frames of a video; it is cached."""
    if video not in _sheets:
        count = len(video.frames)
        _sheets[video] = strip(video, spread(count, min(count, MOST_FRAMES)), COLUMNS_BESIDE)
    return _sheets[video]


def strip(video: Video, places: Sequence[int], columns: int = COLUMNS) -> Image.Image:
    """Draw frames of a video in rows, with their times.

    Args:
        video: the video.
        places: indices of the frames in `Video.frames`.
        columns: frames per row.
    """
    width, height = video.frames[0].image.size
    high = max(min(round(_WIDTH * height / width), 2 * _WIDTH), 1)
    columns = min(len(places), columns)
    rows = -(-len(places) // columns)
    across, down = _WIDTH + _GAP, high + _LINE + _GAP
    whole = Image.new("RGB", (columns * across - _GAP, rows * down - _GAP), "black")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(_FONT)
    for number, place in enumerate(places):
        left, top = number % columns * across, number // columns * down
        whole.paste(video.frames[place].image.resize((_WIDTH, high)), (left, top))
        pen.text((left + _WIDTH // 2, top + high + 2), clock(video.times_s[place]), "white", font, anchor="mt")
    return whole


def clock(time_s: float) -> str:
    """Format a time in minutes, seconds and tenths, from an hour on in hours, minutes and seconds."""
    minutes, seconds = divmod(time_s, 60)
    if minutes < 60:
        return f"{int(minutes)}:{seconds:04.1f}"
    return f"{int(minutes // 60)}:{int(minutes % 60):02}:{int(seconds):02}"
