"""Limits for one picture or video: file size, pixels, and memory and time of decoding.

Each limit is set by an environment variable, `OMNILMM_PICTURE_` or `OMNILMM_VIDEO_` followed by the field in capitals:
`OMNILMM_PICTURE_SECONDS=30 python web_demo.py`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from omnilmm.errors import OptionsError
from omnilmm.sentences import Sentence

Kind = TypeVar("Kind")

PREFIX = "OMNILMM_PICTURE_"
VIDEO_PREFIX = "OMNILMM_VIDEO_"
SMALLEST_SHARE = 0.2  # share of the time limit for the smallest picture; the rest grows with the number of pixels
SMALLEST_MEMORY = 0.5  # share of the memory limit for the smallest picture
PIXEL_BYTES = 16  # memory per pixel for decoding WebP; other formats take a third


class _InBytes:
    """Units that decoders count in."""

    file_mb: int
    megapixels: int

    @property
    def file_bytes(self) -> int:
        """File size limit in bytes."""
        return self.file_mb * 2**20

    @property
    def pixels(self) -> int:
        """Limit on the number of pixels of a picture or frame."""
        return self.megapixels * 1_000_000


@dataclass(frozen=True)
class Limits(_InBytes):
    """Limits for one picture.

    Attributes:
        file_mb: size of its file in MiB.
        megapixels: size of the picture; a 50-megapixel phone photo fits.
        seconds: CPU time for decoding a picture of the largest size; the smallest picture gets a fifth.
        memory_mb: memory for decoding in MiB, beyond the base usage of the process; the smallest picture gets half. A
            WebP of more than 30 megapixels takes more.
        import_seconds: time for decoding all pictures of one imported conversation.
        processes: number of decoder processes, and so of pictures decoded in parallel; 0 decodes within this process,
            without limits on time and memory.
    """

    file_mb: int = 64
    megapixels: int = 64
    seconds: float = 10.0
    memory_mb: int = 500
    import_seconds: float = 120.0
    processes: int = 2

    def cpu_seconds(self, pixels: int = 0) -> float:
        """Return the CPU time for a picture of that many pixels; 0 pixels where the size is not known yet."""
        return self.seconds * self._share(pixels)

    def memory_bytes(self, pixels: int = 0) -> int:
        """Return the memory for a picture of that many pixels; 0 pixels where the size is not known yet."""
        most = self.memory_mb * 2**20
        return min(int(most * SMALLEST_MEMORY) + PIXEL_BYTES * pixels, most)

    def _share(self, pixels: int) -> float:
        return SMALLEST_SHARE + (1 - SMALLEST_SHARE) * min(pixels / self.pixels, 1.0)

    def too_many_pixels(self, size: tuple[int, int] | None = None) -> Sentence:
        """Return the error message for a picture with too many pixels."""
        way = raise_limit("MEGAPIXELS", self.megapixels)
        if size is None:
            return Sentence("too_many_pixels", most=self.megapixels, way=way)
        return Sentence("too_many_pixels_of", width=size[0], height=size[1], most=self.megapixels, way=way)

    def too_slow(self, pixels: int = 0) -> Sentence:
        """Return the error message for a picture whose decoding takes too long."""
        return Sentence(
            "decoding_too_slow", most=self.cpu_seconds(pixels), way=raise_limit("SECONDS", f"{self.seconds:g}")
        )

    def too_much_memory(self, pixels: int = 0) -> Sentence:
        """Return the error message for a picture whose decoding takes too much memory."""
        most = self.memory_bytes(pixels) >> 20
        return Sentence("decoding_too_much_memory", most=most, way=raise_limit("MEMORY_MB", self.memory_mb))


def raise_limit(name: str, now: int | str, prefix: str = PREFIX) -> Sentence:
    """Return the advice to raise a limit: its variable and current value."""
    return Sentence("raise_limit", variable=f"{prefix}{name}", now=now)


@dataclass(frozen=True)
class VideoLimits(_InBytes):
    """Limits for one video; environment variables `OMNILMM_VIDEO_…`.

    Attributes:
        file_mb: size of its file in MiB.
        megapixels: size of a frame; 8K fits.
        seconds: CPU time for reading all packets and decoding the frames that are needed.
        memory_mb: memory for decoding in MiB, beyond the base usage of the process.
        processes: number of decoder processes for videos, besides those for pictures; 0 decodes within this process.
    """

    file_mb: int = 2048
    megapixels: int = 34
    seconds: float = 180.0
    memory_mb: int = 2000
    processes: int = 2

    def cpu_seconds(self, pixels: int = 0) -> float:
        """Return the CPU time for a video, independent of its size."""
        return self.seconds

    def memory_bytes(self, pixels: int = 0) -> int:
        """Return the memory for a video, independent of its size."""
        return self.memory_mb * 2**20

    def too_many_pixels(self, size: tuple[int, int]) -> Sentence:
        """Return the error message for a video whose frames are too large."""
        way = raise_limit("MEGAPIXELS", self.megapixels, VIDEO_PREFIX)
        return Sentence("video_too_many_pixels", width=size[0], height=size[1], most=self.megapixels, way=way)

    def too_slow(self, pixels: int = 0) -> Sentence:
        """Return the error message for a video whose decoding takes too long."""
        way = raise_limit("SECONDS", f"{self.seconds:g}", VIDEO_PREFIX)
        return Sentence("video_too_slow", most=self.seconds, way=way)

    def too_much_memory(self, pixels: int = 0) -> Sentence:
        """Return the error message for a video whose decoding takes too much memory."""
        way = raise_limit("MEMORY_MB", self.memory_mb, VIDEO_PREFIX)
        return Sentence("video_too_much_memory", most=self.memory_mb, way=way)

    def too_large(self) -> Sentence:
        """Return the error message for a video file that is too large."""
        return Sentence(
            "video_file_too_large", most=self.file_mb, way=raise_limit("FILE_MB", self.file_mb, VIDEO_PREFIX)
        )


def too_large(most_mib: int) -> Sentence:
    """Return the error message for a picture file that is too large."""
    return Sentence("picture_file_too_large", most=most_mib, way=Sentence("raise_file_limit", now=most_mib))


def limits() -> Limits:
    """Return the limits for pictures, read from the environment.

    Raises:
        OptionsError: A variable is not a number above 0 (`PROCESSES` may be 0).
    """
    return from_environment(Limits, PREFIX)


def video_limits() -> VideoLimits:
    """Return the limits for videos, read from the environment.

    Raises:
        OptionsError: A variable is not a number above 0 (`PROCESSES` may be 0).
    """
    return from_environment(VideoLimits, VIDEO_PREFIX)


def from_environment(kind: type[Kind], prefix: str) -> Kind:
    """Return the limits of a dataclass, with those that environment variables of this prefix set.

    Raises:
        OptionsError: A variable is not a number above 0 (`PROCESSES` may be 0).
    """
    names = {field.name: prefix + field.name.upper() for field in fields(kind)}  # type: ignore[arg-type]
    kinds = {field.name: type(field.default) for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{field: _read(name, kinds[field]) for field, name in names.items() if name in os.environ})


def _read(name: str, kind: type[Any]) -> Any:
    text = os.environ[name]
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf or (value == 0 and name.endswith("PROCESSES"))):
        raise OptionsError("no_whole_number" if kind is int else "no_number", name=name, given=text)
    return value
