"""Convert a conversation to the messages of a request: text parts, and pictures as data URIs.

Pictures are sent as PNG, which keeps every pixel, and above `LARGE` pixels as JPEG; some servers refuse other formats.
The same picture is always sent as the same bytes, so that servers find it in their caches.
"""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from omnilmm.conversation import Conversation, Message, Part, Picture
from omnilmm.engine.caches.lru import LRUCache
from omnilmm.errors import InputError

LARGE = 2_500_000  # pixels; the models of the family shrink pictures above 1.8 million themselves
JPEG_QUALITY = 95
SENT_BYTES = 64 * 2**20  # of encoded pictures that are kept: each turn sends all pictures again
SMALLER = 1024  # longest side of a picture that is sent again after the server has refused the request as too large


class Encoder:
    """Encodes pictures, each once."""

    def __init__(self) -> None:
        self._sent: LRUCache[tuple[str, int | None], str] = LRUCache(SENT_BYTES)

    def messages(self, conversation: Conversation, longest: int | None = None) -> list[dict[str, Any]]:
        """Return the messages of a request.

        Args:
            conversation: the conversation; thoughts are left out.
            longest: the longest side of a picture in pixels; larger ones are shrunk. None sends them as they are.

        Raises:
            InputError: It has a video.
        """
        system = [{"role": "system", "content": conversation.system}] if conversation.system else []
        return [*system, *(self._message(message, longest) for message in conversation.messages)]

    def _message(self, message: Message, longest: int | None) -> dict[str, Any]:
        if not message.shown:
            return {"role": message.role, "content": message.text}
        return {"role": message.role, "content": [self._part(part, longest) for part in message.parts]}

    def _part(self, part: Part, longest: int | None) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if not isinstance(part, Picture):
            raise InputError("no_videos_there")
        return {"type": "image_url", "image_url": {"url": self._address(part, longest)}}

    def _address(self, picture: Picture, longest: int | None) -> str:
        key = (picture.digest, longest)
        address = self._sent.get(key)
        if address is None:
            address = _encoded(picture.image, longest)
            self._sent.put(key, address, len(address))
        return address


def _encoded(image: Image.Image, longest: int | None) -> str:
    if longest is not None and max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest))
    file = io.BytesIO()
    kind = "jpeg" if image.width * image.height > LARGE or longest is not None else "png"
    how: dict[str, Any] = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "jpeg" else {"compress_level": 1}
    image.save(file, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
