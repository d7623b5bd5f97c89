"""Past chats: what a browser keeps of its conversations, if its owner wishes, and how one of them comes back.

The server stores nothing of it. After a turn the browser says which pictures of this conversation it has; it is sent a
`chat_record`: the export (`archive.to_json`) with a name in place of each picture, and the pictures that it lacks.
To continue a chat the browser puts the pictures in their places again and sends the whole, which is validated as
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

LOSSLESS_PIXELS = 1_500_000  # up to here a picture is kept as PNG; a photo of 12 megapixels would take 20 MB
_JPEG_QUALITY = 95
_JPEG_SIDE = 65_500  # a JPEG cannot be longer
_THUMBNAIL_PIXELS = 96
_MAX_NAMES = 100_000
MAX_BYTES = 100_000_000  # of the pictures of one chat, encoded; `assets/history.js` keeps no more either


def _new_id() -> str:
    return secrets.token_urlsafe(12)


@dataclass(frozen=True)
class Chat:
    """Which of its chats a browser should take a conversation for.

    Attributes:
        id: of no meaning but in that browser.
        names: content hash of a picture -> the name under which the browser has it, where that is another one: a JPEG
            that was read again is not equal to what it was made of.
        text_of: the chat of which this is the text alone, until a turn is added: the server lost its pictures. Such a
            one is not kept, so that it cannot take the place of the whole.
    """

    id: str = field(default_factory=_new_id)
    names: Mapping[str, str] = field(default_factory=dict)
    text_of: str = ""

    def name(self, picture: Picture) -> str:
        """The name of a picture in the browser."""
        return self.names.get(picture.digest, picture.digest)


def chat_record(chat: Chat, conversation: Conversation, has: Collection[str] = ()) -> dict[str, Any]:
    """What a browser keeps of a conversation; without its "document" if that is too large, empty if it is to keep none.

    Args:
        chat: which one of its chats it is.
        conversation: with pictures.
        has: names of the pictures of this chat that the browser has already.
    """
    if chat.text_of:
        return {}
    named = {chat.name(picture): picture for picture in conversation.images}
    frames = {chat.name(frame) for video in conversation.videos for frame in video.frames}
    pictures = {name: _kept(picture, name in frames) for name, picture in named.items() if name not in has}
    if sum(len(picture["image"]) for picture in pictures.values()) > MAX_BYTES:
        return {"chat": chat.id}
    return {"chat": chat.id, "document": to_document(conversation, chat.name), "pictures": pictures}


def _kept(picture: Picture, is_frame: bool) -> dict[str, str]:
    """A frame of a video was compressed before, so that it is not kept lossless."""
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
        chat: which one.
        conversation: with its pictures.
        has: names of the pictures that the browser has of the chat *before*, which is to be kept first.
    """

    chat: Chat
    conversation: Conversation
    has: tuple[str, ...]


def read_opened(given: object) -> Opened:
    """A chat as `assets/history.js` sends it back.

    Raises:
        InputError: It is none; says where and what was expected.
    """
    try:
        opened = _Opened.model_validate(given)
    except ValidationError as error:
        raise InputError("no_stored_chat") from error
    conversation = read_conversation(opened.document)
    names = dict(zip((picture.digest for picture in conversation.images), opened.names, strict=False))
    return Opened(Chat(opened.chat, names), conversation, tuple(opened.has))


def names_in(given: object) -> frozenset[str]:
    """Names of pictures, as a browser says them; none where they are not."""
    return frozenset(name for name in given if isinstance(name, str)) if isinstance(given, list) else frozenset()
