"""Messages as scripts write them -> `Conversation`: transformers' form, with pictures wherever they are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from omnilmm.conversation import Conversation, Part, Picture
from omnilmm.errors import InputError
from omnilmm.images.pixels import open_picture


def conversation_from_dicts(messages: Iterable[Mapping[str, Any]]) -> Conversation:
    """Messages of the form `{"role": "user", "content": …}`.

    Content is text, a picture, or a list of them. A picture is a PIL image, a `Path`, the bytes of a file, or
    `{"type": "image", "image": any of these or a path as str}`; text may be `{"type": "text", "text": …}`. A first
    message of role "system" becomes the system prompt.

    Raises:
        InputError: A role or a content that is not of the form.
        ImageError: A picture that cannot be read.
    """
    conversation = Conversation()
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or "content" not in message:
            raise InputError(f"Message {number} must be a dict with 'role' and 'content'; got {message!r:.80}.")
        role, content = message.get("role"), message["content"]
        parts = tuple(_part(item) for item in (content if isinstance(content, list | tuple) else [content]))
        if role == "system" and number == 0:
            conversation = Conversation(system="\n".join(part for part in parts if isinstance(part, str)))
        elif role in ("user", "assistant"):
            conversation = conversation.with_message(role, *parts)
        else:
            raise InputError(f"Message {number}: expected role 'user' or 'assistant', got {role!r}.")
    return conversation


def _part(item: Any) -> Part:
    if isinstance(item, Mapping) and item.get("type") == "text" and isinstance(item.get("text"), str):
        return str(item["text"])
    if isinstance(item, Mapping) and item.get("type") == "image":
        item = next((item[key] for key in ("image", "path") if key in item), None)
        item = Path(item) if isinstance(item, str) else item
    if isinstance(item, str | Picture):
        return item
    if isinstance(item, Image.Image | Path | bytes):
        return open_picture(item)
    raise InputError(
        f"Content must be text, a picture (PIL image, Path or bytes), or a list of them; got {type(item).__name__}."
    )
