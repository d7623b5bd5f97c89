"""Pictures as they are shown: JPEG files in memory, and `data:` addresses, which are part of a page or a text.

A picture in a `data:` address has no address of its own that another visitor could ask for, and lies on no disk.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

FULL_PIXELS = 4096  # longer side of a picture at full size


def jpeg(image: Image.Image, pixels: int = FULL_PIXELS) -> bytes:
    """A picture as a JPEG file, its longer side at most so many pixels."""
    if max(image.size) > pixels:
        image = image.copy()
        image.thumbnail((pixels, pixels))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=90)
    return file.getvalue()


def data_address(image: Image.Image, pixels: int = FULL_PIXELS) -> str:
    """The same as a `data:` address."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image, pixels)).decode()}"
