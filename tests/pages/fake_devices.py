"""Chromium's own fake camera and microphone, which play files: a picture as a Y4M video, a question as a WAV file."""

from __future__ import annotations

import io
import wave
from pathlib import Path

from PIL import Image

from omnilmm.live.hearing import RATE
from tests.live.sounds import Samples

SIZE = 480  # of the picture, in the middle of a white frame of 640 × 480
FRAMES = 2  # Chromium begins again at the end, as it does with the sound


def write_y4m(path: Path, picture: Path) -> Path:
    """Write a video that shows a picture."""
    frame = Image.new("RGB", (640, SIZE), "white")
    frame.paste(Image.open(picture).convert("RGB").resize((SIZE, SIZE)), ((640 - SIZE) // 2, 0))
    light, *colours = frame.convert("YCbCr").split()
    planes = light.tobytes() + b"".join(colour.reduce(2).tobytes() for colour in colours)
    path.write_bytes(f"YUV4MPEG2 W640 H{SIZE} F10:1 Ip A1:1 C420\n".encode() + FRAMES * (b"FRAME\n" + planes))
    return path


def wav(samples: Samples) -> bytes:
    """Return a WAV file of 16-bit samples, 16,000 per second."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def write_wav(path: Path, samples: Samples) -> Path:
    """Write it to a file."""
    path.write_bytes(wav(samples))
    return path


def arguments(video: Path, sound: Path) -> list[str]:
    """Return further arguments for Chromium; `tests.browser` has those that make its devices fake ones."""
    return [f"--use-file-for-fake-video-capture={video}", f"--use-file-for-fake-audio-capture={sound}"]
