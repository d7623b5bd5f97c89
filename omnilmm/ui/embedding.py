"""Pictures as the pages display them: JPEG files in memory, and `data:` URIs, which are part of a page or a text.

A picture in a `data:` URI has no address that another visitor could request, and is not written to disk.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

FULL_PIXELS = 4096  # longer side in pixels of a picture at full size


def jpeg(image: Image.Image, pixels: int = FULL_PIXELS) -> bytes:
    """Encode a picture as JPEG, its longer side at most `pixels`."""
    if max(image.size) > pixels:
        image = image.copy()
        image.thumbnail((pixels, pixels))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=90)
    return file.getvalue()


def data_address(image: Image.Image, pixels: int = FULL_PIXELS) -> str:
    """Return the same JPEG as a `data:` URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image, pixels)).decode()}"
