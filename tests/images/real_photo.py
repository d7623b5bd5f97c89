"""A real photo for tests, and where it is from: see `data/README.md`."""

from __future__ import annotations

from pathlib import Path

from omnilmm.conversation import Picture
from omnilmm.images.pixels import open_picture

PHOTO = Path(__file__).parent / "data" / "chelsea.jpg"


def photo() -> Picture:
    """Of a cat."""
    return open_picture(PHOTO)
