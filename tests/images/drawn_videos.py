"""Videos drawn and written by PyAV: frame n shows n in cells, by which it is known again."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

BITS = (4, 3)  # columns and rows of cells, each of which is a bit of the frame's number


def numbered(number: int, size: tuple[int, int]) -> Image.Image:
    """Frame n: its number as black and white cells."""
    cells = Image.new("L", BITS)
    cells.putdata([230 if number >> bit & 1 else 25 for bit in range(BITS[0] * BITS[1])])
    return cells.resize(size, Image.Resampling.NEAREST).convert("RGB")


def number_of(image: Image.Image) -> int:
    """Which frame a decoded one is."""
    grey = image.convert("L").resize(BITS, Image.Resampling.BOX)
    return sum((value > 128) << bit for bit, value in enumerate(grey.tobytes()))


def drawn(
    path: Path | io.BytesIO,
    frames: int = 30,
    fps: Any = 10,
    size: tuple[int, int] = (64, 48),
    *,
    pts: list[int] | None = None,
    codec: str = "libx264",
    container: str | None = None,
    gop: int = 12,
    has_sound: bool = False,
    images: list[Image.Image] | None = None,
) -> Any:
    """Write a video.

    Args:
        path: where to.
        frames: how many.
        fps: per second.
        size: (width, height).
        pts: of the frames, in 1/fps; one after the other where left out.
        codec: of FFmpeg.
        container: format where the name does not say it.
        gop: frames from one that can be decoded alone to the next.
        has_sound: a track of silence, too.
        images: what is shown instead of numbers.
    """
    with av.open(path if isinstance(path, io.BytesIO) else str(path), "w", format=container) as file:
        fps = Fraction(fps)
        stream: Any = file.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = 1 / fps
        sound: Any = file.add_stream("aac", rate=16000) if has_sound else None
        for number in range(frames):
            image = images[number] if images else numbered(number, size)
            frame = av.VideoFrame.from_image(image)
            frame.pts = pts[number] if pts else number
            frame.time_base = 1 / fps
            file.mux(stream.encode(frame))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            file.mux(sound.encode(silence))
            file.mux(sound.encode(None))
        file.mux(stream.encode(None))
    return path


def turned(content: bytes, quarter_turns: int) -> bytes:
    """An MP4 as a phone writes it that was held otherwise: the matrix of its track turns it clockwise."""
    one = 1 << 16
    a, b = {1: (0, one), 2: (-one, 0), 3: (0, -one)}[quarter_turns]
    matrix = struct.pack(">9i", a, b, 0, -b, a, 0, 0, 0, 1 << 30)
    place = content.index(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30), content.index(b"tkhd"))
    return content[:place] + matrix + content[place + 36 :]
