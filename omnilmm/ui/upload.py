"""Opens pictures and videos that visitors upload, with the name of the file in the error message."""

from __future__ import annotations

from pathlib import Path

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Picture, Video
from omnilmm.errors import ImageError
from omnilmm.images.formats import is_video
from omnilmm.images.pixels import open_picture
from omnilmm.images.videos import HEAD_BYTES, is_video_file, open_video

QUOTA_MIB = 512  # default limit for one visitor's uploads together that were not sent yet; set by `--upload-quota`


def open_upload(name: str, source: Path | bytes, card: ModelCard | None = None) -> Picture | Video:
    """Open an uploaded picture or video.

    Args:
        name: the name of the file, for the error message.
        source: its path, or its content.
        card: the card of the model that is asked about a video; without one, videos are not accepted.

    Raises:
        ImageError: It cannot be used; the message has its name and the reason.
        InputError: It is a video, and the model does not support videos.
        MissingPackageError: It is a video, and PyAV is not installed.
    """
    is_one = is_video(source[:HEAD_BYTES]) if isinstance(source, bytes) else is_video_file(source)
    try:
        if is_one and card is not None:
            return open_video(source, card.require_video())
        return open_picture(source)
    except ImageError as error:
        raise ImageError("of_file", name=name, reason=error) from error
