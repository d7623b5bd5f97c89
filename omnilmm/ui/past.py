"""Past chats: what a browser stores of its conversations, if its owner wishes, and how one of them is reopened.

The server stores none of it. After a turn the browser says which pictures of this conversation it has, and receives a
`chat_record`: the export (`archive.to_json`) with a name in place of each picture, and the pictures that it lacks.
To continue a chat the browser puts the pictures back in their places and sends the whole, which is validated as
strictly as an imported file. See `assets/history.js`.
"""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilmm.archive import read_conversation, to_document
from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import InputError
from omnilmm.ui.embedding import data_address

LOSSLESS_PIXELS = 1_500_000  # up to this size a picture is stored as PNG; a photo of 12 megapixels would take 20 MB
_JPEG_QUALITY = 95
_JPEG_SIDE = 65_500  # longest side of a JPEG
_THUMBNAIL_PIXELS = 96
_MAX_NAMES = 100_000
MAX_BYTES = 100_000_000  # of the pictures of one chat, encoded; `assets/history.js` stores no more either


def _new_id() -> str:
    return secrets.token_urlsafe(12)


@dataclass(frozen=True)
class Chat:
    """Identifies the chat of a browser to which a conversation belongs.

    Attributes:
        id: meaningful only in that browser.
        names: content hash of a picture -> the browser's name for it, where that differs: a decoded JPEG is not equal
            to the picture that it was made from.
        text_of: the chat of which this is only the text, until a turn is added, because the server lost its pictures.
            It is not stored, so that it cannot replace the complete chat.
    """

    id: str = field(default_factory=_new_id)
    names: Mapping[str, str] = field(default_factory=dict)
    text_of: str = ""

    def name(self, picture: Picture) -> str:
        """Return the browser's name for a picture."""
        return self.names.get(picture.digest, picture.digest)


def chat_record(chat: Chat, conversation: Conversation, has: Collection[str] = ()) -> dict[str, Any]:
    """Return what a browser stores of a conversation; without "document" if that is too large, empty to store nothing.

    Args:
        chat: identifies it among the browser's chats.
        conversation: with its pictures.
        has: names of the pictures of this chat that the browser already has.
    """
    if chat.text_of:
        return {}
    named = {chat.name(picture): picture for picture in conversation.images}
    frames = {chat.name(frame) for video in conversation.videos for frame in video.frames}
    pictures = {name: _encoded(picture, name in frames) for name, picture in named.items() if name not in has}
    if sum(len(picture["image"]) for picture in pictures.values()) > MAX_BYTES:
        return {"chat": chat.id}
    return {"chat": chat.id, "document": to_document(conversation, chat.name), "pictures": pictures}


def _encoded(picture: Picture, is_frame: bool) -> dict[str, str]:
    """Encode a picture for the record; a video frame is never stored losslessly, since it was compressed before."""
    file = io.BytesIO()
    is_small = not is_frame and picture.image.width * picture.image.height <= LOSSLESS_PIXELS
    if is_small or max(picture.image.size) > _JPEG_SIDE:
        picture.image.save(file, format="PNG")
    else:
        picture.image.save(file, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    image = base64.b64encode(file.getvalue()).decode()
    return {"image": image, "thumbnail": data_address(picture.image, _THUMBNAIL_PIXELS)}


class _Opened(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    chat: str = Field(pattern=r"^[\w-]{1,64}$")
    document: str
    names: list[str] = Field(max_length=_MAX_NAMES)
    has: list[str] = Field(default=[], max_length=_MAX_NAMES)


@dataclass(frozen=True)
class Opened:
    """A chat that a browser sent back.

    Attributes:
        chat: identifies it.
        conversation: with its pictures.
        has: names of the pictures that the browser has of the *previous* chat, which is to be stored first.
    """

    chat: Chat
    conversation: Conversation
    has: tuple[str, ...]


def read_opened(given: object) -> Opened:
    """Validate a chat that `assets/history.js` sends back.

    Raises:
        InputError: It is invalid; says where, and what was expected.
    """
    try:
        opened = _Opened.model_validate(given)
    except ValidationError as error:
        raise InputError("no_stored_chat") from error
    conversation = read_conversation(opened.document)
    names = dict(zip((picture.digest for picture in conversation.images), opened.names, strict=False))
    return Opened(Chat(opened.chat, names), conversation, tuple(opened.has))


def names_in(given: object) -> frozenset[str]:
    """Return the names of pictures that a browser sent; empty if they are not a list."""
    return frozenset(name for name in given if isinstance(name, str)) if isinstance(given, list) else frozenset()
