"""Export conversations to JSON files and import them.

The reasoning of a model is stored beside the content of its answer, as "thought".
Files are untrusted input: their pictures are decoded like uploads, and unknown keys are refused.
"""

from __future__ import annotations

import base64
import io
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilmm.conversation import Conversation, Message, Part, Picture, Thought, Video
from omnilmm.errors import ImageError, InputError
from omnilmm.images.limits import limits, raise_limit
from omnilmm.images.pixels import open_picture
from omnilmm.sentences import Sentence

EXPORT_FORMAT = "omnilmm-chat/1"
MAX_BYTES = 200 * 2**20
_MAX_MESSAGES = 1000
_MAX_PARTS = 100  # per message
_MAX_FRAMES = 1000  # per video
_FRAME_QUALITY = 92
MAX_PIXELS = 150_000_000  # of all pictures together: a small file can hold many large ones


def to_json(conversation: Conversation, model: str | None = None) -> str:
    """Return a conversation as JSON, with pictures as base64 PNG and the frames of videos as base64 JPEG.

    Args:
        conversation: conversation to convert.
        model: title of the model, and of its adapter, that answers when it is exported; for readers, not read back.
    """
    document = to_document(conversation, _png, _jpeg)
    return json.dumps(document | ({"model": model} if model else {}), ensure_ascii=False, indent=1)


def to_document(
    conversation: Conversation, image: Callable[[Picture], str], frame: Callable[[Picture], str] | None = None
) -> dict[str, Any]:
    """Return the JSON document of a conversation as Python objects.

    Args:
        conversation: conversation to convert.
        image: returns the string for a picture.
        frame: returns the string for a frame of a video; defaults to `image`.
    """
    messages = [_message_to_json(message, image, frame or image) for message in conversation.messages]
    return {"format": EXPORT_FORMAT, "system": conversation.system, "messages": messages}


def _message_to_json(
    message: Message, image: Callable[[Picture], str], frame: Callable[[Picture], str]
) -> dict[str, Any]:
    written = {"role": message.role, "content": [_part_to_json(part, image, frame) for part in message.parts]}
    return written if message.thought is None else written | {"thought": asdict(message.thought)}


def _part_to_json(part: Part, image: Callable[[Picture], str], frame: Callable[[Picture], str]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Video):
        # The frames are stored, not the file; as JPEG, since they come from lossy compression anyway.
        return {
            "type": "video",
            "frames": [frame(picture) for picture in part.frames],
            "times_s": list(part.times_s),
            "duration_s": part.duration_s,
            "size": list(part.size),
        }
    return {"type": "image", "image": image(part)}


def _png(picture: Picture) -> str:
    buffer = io.BytesIO()
    # For a 12-megapixel photo the default level takes 4.3 s on one core and gives 18 MiB; this takes 1.7 s and gives
    # 21 MiB (Intel Xeon, Pillow 12.3). Both are lossless.
    picture.image.save(buffer, format="PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def _jpeg(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.image.save(buffer, format="JPEG", quality=_FRAME_QUALITY, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _ImagePart(_Strict):
    type: Literal["image"]
    image: str


class _Thought(_Strict):
    text: str
    tokens: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    is_closed: bool = True


class _VideoPart(_Strict):
    type: Literal["video"]
    frames: list[str] = Field(min_length=1, max_length=_MAX_FRAMES)
    times_s: list[float] = Field(min_length=1, max_length=_MAX_FRAMES)
    duration_s: float = Field(ge=0, le=1e6)
    size: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=2, max_length=2)]


class _Message(_Strict):
    role: Literal["user", "assistant"]
    content: list[_TextPart | _ImagePart | _VideoPart] = Field(max_length=_MAX_PARTS)
    thought: _Thought | None = None


class _Document(_Strict):
    format: str
    model: str | None = None
    system: str | None = None
    messages: list[_Message] = Field(max_length=_MAX_MESSAGES)


def read_conversation(data: str | bytes) -> Conversation:
    """Read a conversation that was exported as JSON.

    Raises:
        InputError: The data is not an exported conversation, or exceeds a limit; the message says where.
    """
    if len(data) > MAX_BYTES:
        raise InputError("conversation_file_too_large", size=len(data) / 2**20, most=MAX_BYTES // 2**20)
    try:
        document = _Document.model_validate(_parsed(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or Sentence("the_file")
        raise InputError("no_conversation", place=place, reason=first["msg"]) from error
    if document.format != EXPORT_FORMAT:
        raise InputError("other_conversation_format", format=document.format[:40], expected=EXPORT_FORMAT)
    messages: list[Message] = []
    pixels, began_s, bounds = 0, time.monotonic(), limits()
    for number, message in enumerate(document.messages, 1):
        parts: list[Part] = []
        for given in message.content:
            if isinstance(given, _TextPart):
                parts.append(given.text)
                continue
            pictures = []
            for image in given.frames if isinstance(given, _VideoPart) else [given.image]:
                pictures.append(picture := _picture(image, number))
                pixels += picture.image.width * picture.image.height
                if pixels > MAX_PIXELS:
                    raise InputError("too_many_pixels_together", number=number, most=MAX_PIXELS // 1_000_000)
                if time.monotonic() - began_s > bounds.import_seconds:
                    way = raise_limit("IMPORT_SECONDS", f"{bounds.import_seconds:g}")
                    raise InputError("decoding_too_slow_together", number=number, most=bounds.import_seconds, way=way)
            parts.append(_video(given, pictures, number) if isinstance(given, _VideoPart) else pictures[0])
        thought = Thought(**message.thought.model_dump()) if message.thought else None
        messages.append(Message(message.role, tuple(parts), thought))
    conversation = Conversation(tuple(messages), document.system)
    _check_turns(conversation)
    return conversation


def write_conversation_file(conversation: Conversation, path: Path, model: str | None = None) -> None:
    """Write a conversation as JSON; an existing file is replaced only once the new one is complete.

    Args:
        conversation: conversation to write.
        path: the file.
        model: title of the model that answers, as for `to_json`.

    Raises:
        OSError: The file cannot be written; no partial file is left behind.
    """
    text, path = to_json(conversation, model), path.resolve()
    is_special = path.exists() and not path.is_file()  # a pipe, a terminal
    written = path if is_special else path.with_name(f"{path.name}.part")
    try:
        written.write_text(text, encoding="utf-8")
        if not is_special:
            written.replace(path)
    except OSError as error:
        if not is_special:
            with suppress(OSError):
                written.unlink()
        error.filename, error.filename2 = str(path), None
        raise


def read_conversation_file(path: Path) -> Conversation:
    """Read an exported conversation from a file.

    Raises:
        InputError: The file cannot be read, or is not an exported conversation.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("conversation_file_unreadable", path=path, reason=reason) from error
    return read_conversation(data)


def _parsed(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("conversation_no_json", reason=error) from error


def _video(part: _VideoPart, frames: list[Picture], number: int) -> Video:
    times, (width, height) = part.times_s, part.size
    is_in_order = all(0 <= one <= other for one, other in zip(times, [*times[1:], math.inf], strict=True))
    if len(frames) != len(times) or not is_in_order or len({frame.image.size for frame in frames}) > 1:
        raise InputError("video_out_of_order", number=number, frames=len(frames), times=len(times))
    return Video(tuple(frames), tuple(times), part.duration_s, (width, height))


def _picture(image: str, number: int) -> Picture:
    try:
        return open_picture(base64.b64decode(image, validate=True))
    except ValueError as error:  # raised by b64decode
        raise InputError("picture_no_base64", number=number, reason=error) from error
    except ImageError as error:
        raise InputError("of_message", number=number, reason=error) from error


def _check_turns(conversation: Conversation) -> None:
    roles = [message.role for message in conversation.messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise InputError("turns_out_of_order")
    for number, message in enumerate(conversation.messages, 1):
        if message.role == "assistant" and message.shown:
            raise InputError("answer_with_picture", number=number)
        if message.role == "user" and message.thought:
            raise InputError("question_with_thought", number=number)
