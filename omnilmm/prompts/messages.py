"""Convert messages in the formats of transformers and OpenAI to a `Conversation`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from omnilmm.conversation import Conversation, Part, Video
from omnilmm.errors import InputError
from omnilmm.images.pixels import open_picture
from omnilmm.images.sources import decoded, picture_at, picture_from
from omnilmm.images.videos import is_video_file, open_video
from omnilmm.versions import VideoSampling

Videos = Callable[[], VideoSampling]


def no_videos() -> VideoSampling:
    """Refuse a video, as the model that will take it is not known."""
    raise InputError("video_needs_model")


def conversation_from_dicts(messages: Iterable[Mapping[str, Any]], videos: Videos = no_videos) -> Conversation:
    """Convert messages of the form `{"role": "user", "content": …}` to a conversation.

    Content is one part or a list of parts:

    - text, or `{"type": "text", "text": …}`
    - a picture: PIL image, numpy array [H, W] or [H, W, 3] of uint8, `Path`, bytes of a file, open binary file
    - `{"type": "image", "image": any of these, a path as str, or a data URI}`, as in transformers; also with "path",
      "url" (a data URI or a path) or "base64" instead; the makers' own examples use "pairs" for base64 and text
    - `{"type": "image_url", "image_url": {"url": a data URI}}`, as in OpenAI's API
    - a video: `Path`, or `{"type": "video", "video": a path, bytes, an open binary file or a `Video`}`, also with
      "path" instead

    A first message of role "system" becomes the system prompt. Nothing is fetched from the network.

    Args:
        messages: messages in the forms above.
        videos: returns the frame sampling of the model, `ModelCard.require_video`; called for each video.

    Raises:
        InputError: A role or a content is not of this form, or the model takes no videos.
        ImageError: A picture or a video cannot be read.
    """
    if not isinstance(messages, Iterable):
        raise InputError("no_messages", kind=type(messages).__name__)
    conversation = Conversation()
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or "content" not in message:
            raise InputError("message_no_dict", number=number, got=f"{message!r:.80}")
        role, content = message.get("role"), message["content"]
        parts = tuple(_part(item, videos) for item in (content if isinstance(content, list | tuple) else [content]))
        if role == "system" and number == 0:
            conversation = Conversation(system="\n".join(part for part in parts if isinstance(part, str)))
        elif role in ("user", "assistant"):
            conversation = conversation.with_message(role, *parts)
        else:
            raise InputError("unknown_role", number=number, role=repr(role))
    return conversation


def _part(item: Any, videos: Videos) -> Part:
    if isinstance(item, str | Video):
        return item
    if isinstance(item, Path) and is_video_file(item):
        return open_video(item, videos())
    if isinstance(item, Mapping):
        part = _video(item, videos) if item.get("type") == "video" else _typed(item)
    else:
        part = None if item is None or isinstance(item, int | float | list | tuple) else picture_from(item)
    if part is None:
        kind = item.get("type") if isinstance(item, Mapping) else None
        got = f"{{'type': {kind!r}, …}}" if kind else type(item).__name__
        raise InputError("unknown_content", got=got[:60])
    return part


def _video(item: Mapping[str, Any], videos: Videos) -> Part | None:
    given = item.get("video", item.get("path"))
    if isinstance(given, Video):
        return given
    is_source = isinstance(given, str | Path | bytes) or callable(getattr(given, "read", None))
    return open_video(given, videos()) if is_source else None


def _typed(item: Mapping[str, Any]) -> Part | None:
    """Convert a part with a "type"; None if its form is not known."""
    if item.get("type") == "text":
        return next((item[key] for key in ("text", "pairs") if isinstance(item.get(key), str)), None)
    if item.get("type") == "image_url":
        given = item.get("image_url")
        given = given.get("url") if isinstance(given, Mapping) else given
        return picture_at(given) if isinstance(given, str) else None
    if item.get("type") == "image":
        return _image(item)
    return None


def _image(item: Mapping[str, Any]) -> Part | None:
    if item.get("image") is not None:
        return picture_from(item["image"])
    if isinstance(item.get("path"), str | Path):
        return open_picture(Path(item["path"]))
    if isinstance(item.get("url"), str | Path):
        return picture_at(str(item["url"]))
    if isinstance(given := item.get("base64", item.get("pairs")), str | bytes):
        return open_picture(decoded(given))
    return None
