"""Open video files: sample the frames that a model takes, decoded in a subprocess.

path or bytes ──> decoder process ──> frames with their times ──> Video
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from omnilmm.conversation import Picture, Video
from omnilmm.errors import ImageError, MissingPackageError, VideoError
from omnilmm.images.decoder_pool import decode_video
from omnilmm.images.formats import is_video
from omnilmm.images.limits import VideoLimits, video_limits
from omnilmm.images.video_decoding import Frame, Header, decoded
from omnilmm.versions import VideoSampling

HEAD_BYTES = 1024


def is_video_file(path: str | Path) -> bool:
    """Return whether a file is a video by its first bytes; False if it cannot be read."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return is_video(file.read(HEAD_BYTES))
    except (OSError, RuntimeError, ValueError):
        return False


def open_video(source: str | Path | bytes | BinaryIO, sampling: VideoSampling) -> Video:
    """Decode the frames of a video that a model takes: upright, RGB, 8 bit, at most at the model's input size.

    Args:
        source: a path, the file's bytes, or an open binary file.
        sampling: sampling of the model, `ModelCard.require_video()`.

    Raises:
        VideoError: Not a video, damaged, or over a limit on bytes, pixels, time or memory; see `limits`.
        MissingPackageError: PyAV is not installed.
    """
    if find_spec("av") is None:
        raise MissingPackageError("av_missing")
    bounds = video_limits()
    content: Path | bytes
    if isinstance(source, str | Path):
        content = _checked(Path(source), bounds)
    else:
        content = bytes(source) if isinstance(source, bytes | bytearray) else source.read(bounds.file_bytes + 1)
        if len(content) > bounds.file_bytes:
            raise VideoError.of(bounds.too_large())
    if not content:
        raise VideoError("video_empty")
    try:
        if bounds.processes:
            header, frames = decode_video(content, sampling, bounds)
        else:
            header, frames = _here(content, sampling, bounds)
    except VideoError:
        raise
    except ImageError as error:  # raised by the decoder process
        raise VideoError.of(error.sentence) from error
    shown = tuple(Picture(frame.image) for frame in frames)
    return Video(shown, tuple(frame.time_s for frame in frames), header.duration_s, header.size)


def _checked(path: Path, bounds: VideoLimits) -> Path | bytes:
    """Check that a file can be opened and is not too large; return its absolute path, or b"" if it is empty."""
    try:
        path = path.expanduser()
        if not path.is_file():
            raise VideoError("no_video_file", path=path)
        with path.open("rb"):
            size = path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError("video_file_unreadable", path=str(path)[:100], reason=reason) from error
    if size > bounds.file_bytes:
        raise VideoError.of(bounds.too_large())
    return Path(os.path.abspath(path)) if size else b""


def _here(content: Path | bytes, sampling: VideoSampling, bounds: VideoLimits) -> tuple[Header, list[Frame]]:
    with content.open("rb") if isinstance(content, Path) else BytesIO(content) as file:
        header, *frames = decoded(file, sampling, bounds)
    if not isinstance(header, Header):
        raise TypeError("The header comes first.")
    return header, [frame for frame in frames if isinstance(frame, Frame)]
