"""A conversation: messages made of text, pictures and videos. Everything here is immutable and free of tensors.

A `Conversation` holds `Message`s; a message holds parts in the order given: text (`str`), pictures (`Picture`) and
videos (`Video`, sampled frames). `with_message` and `without_last` return new conversations, so a failed turn leaves
the original unchanged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from PIL import Image

from omnilmm.errors import InputError

Role = Literal["user", "assistant"]
_HASHED_PIXELS = 1 << 20  # per update of the hash


@dataclass(frozen=True)
class Picture:
    """A decoded RGB picture; make one with `omnilmm.images.pixels.open_picture`."""

    image: Image.Image

    @cached_property
    def digest(self) -> str:
        """SHA-256 of size and pixels, so pictures compare equal whatever file they came from."""
        width, height = self.image.size
        content = hashlib.sha256(repr(self.image.size).encode())
        rows = max(1, _HASHED_PIXELS // width)
        for top in range(0, height, rows):  # never the whole picture at once, which may be 200 MB
            content.update(self.image.crop((0, top, width, min(top + rows, height))).tobytes())
        return content.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class Video:
    """Sampled frames of a video; make one with `omnilmm.images.videos.open_video`.

    Attributes:
        frames: frames in order, upright RGB; sound and all other frames are not kept.
        times_s: timestamp of each frame, in seconds from the start.
        duration_s: duration of the whole video.
        size: (width, height) of the video, upright; its frames may be smaller.
    """

    frames: tuple[Picture, ...]
    times_s: tuple[float, ...]
    duration_s: float
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.times_s):
            raise ValueError(f"A video has frames and a time for each; got {len(self.frames)}, {len(self.times_s)}.")


Part = str | Picture | Video


def repair_surrogates(text: str) -> str:
    """Repair UTF-16 surrogates in a text: they cannot be encoded as UTF-8, and no tokenizer accepts them.

    A surrogate pair (as JSON may contain) becomes its character, a lone surrogate becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@dataclass(frozen=True)
class Thought:
    """The reasoning before an answer; not part of the answer, and never included in a later prompt.

    Attributes:
        text: the reasoning, without its tags.
        tokens: its number of tokens, tags included; 0 where they are not counted.
        seconds: time it took from its first token on; 0 where that is not known.
        is_closed: the model closed it; otherwise it was cut off, and there is no answer.
    """

    text: str
    tokens: int = 0
    seconds: float = 0.0
    is_closed: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", repair_surrogates(self.text))


@dataclass(frozen=True)
class Message:
    """One message of a conversation. Surrogates in its text are repaired.

    Attributes:
        role: author of the message.
        parts: text, pictures and videos in order.
        thought: reasoning before the answer, for models that think.
    """

    role: Role
    parts: tuple[Part, ...]
    thought: Thought | None = None

    def __post_init__(self) -> None:
        whole = tuple(repair_surrogates(part) if isinstance(part, str) else part for part in self.parts)
        object.__setattr__(self, "parts", whole)

    @property
    def text(self) -> str:
        """The text parts, joined by line breaks."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))

    @property
    def videos(self) -> tuple[Video, ...]:
        """The videos in order."""
        return tuple(part for part in self.parts if isinstance(part, Video))

    @property
    def shown(self) -> tuple[Picture | Video, ...]:
        """Pictures and videos in order."""
        return tuple(part for part in self.parts if not isinstance(part, str))


@dataclass(frozen=True)
class Conversation:
    """Messages in order, and an optional system prompt."""

    messages: tuple[Message, ...] = ()
    system: str | None = None

    def __post_init__(self) -> None:
        if self.system is not None:
            object.__setattr__(self, "system", repair_surrogates(self.system))

    def with_message(self, role: Role, *parts: Part) -> Conversation:
        """Return the conversation with one more message."""
        return replace(self, messages=(*self.messages, Message(role, parts)))

    def without_last(self, count: int = 1) -> Conversation:
        """Return the conversation without its last `count` messages."""
        return replace(self, messages=self.messages[: max(len(self.messages) - count, 0)])

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures in order."""
        return tuple(picture for message in self.messages for picture in message.pictures)

    @property
    def shown(self) -> tuple[Picture | Video, ...]:
        """All pictures and videos, in order."""
        return tuple(part for message in self.messages for part in message.shown)

    @property
    def images(self) -> tuple[Picture, ...]:
        """All pictures and all frames of videos, in order."""
        return tuple(image for part in self.shown for image in (part.frames if isinstance(part, Video) else (part,)))

    @property
    def videos(self) -> tuple[Video, ...]:
        """All videos in order."""
        return tuple(video for message in self.messages for video in message.videos)

    def check_question(self) -> None:
        """Check that the conversation ends with a question that a model can answer.

        Raises:
            InputError: The turns do not alternate, or the newest question is empty.
        """
        expected: Role = "user"
        for message in self.messages:
            if message.role != expected:
                raise InputError("roles_do_not_alternate", expected=expected, got=message.role)
            expected = "assistant" if expected == "user" else "user"
        if not self.messages or self.messages[-1].role != "user":
            raise InputError("last_is_no_question")
        if not self.messages[-1].text.strip():
            raise InputError("question_empty")
