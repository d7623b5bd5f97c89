"""Pictures and videos that visitors upload, opened with their name in the message where that fails."""

from __future__ import annotations

from pathlib import Path

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Picture, Video
from omnilmm.errors import ImageError
from omnilmm.images.formats import is_video
from omnilmm.images.pixels import open_picture
from omnilmm.images.videos import HEAD_BYTES, is_video_file, open_video

QUOTA_MIB = 512  # of one visitor's uploads together that were not sent yet; another one by `--upload-quota`


def open_upload(name: str, source: Path | bytes, card: ModelCard | None = None) -> Picture | Video:
    """A picture that was uploaded, or a video.

    Args:
        name: of the file, for the message.
        source: where it is, or its content.
        card: of the model that is asked about a video; without one none is taken.

    Raises:
        ImageError: Why it cannot be used, with its name.
        InputError: It is a video, and the model cannot look at videos.
        MissingPackageError: It is one, and PyAV is not installed.
    """
    is_one = is_video(source[:HEAD_BYTES]) if isinstance(source, bytes) else is_video_file(source)
    try:
        if is_one and card is not None:
            return open_video(source, card.require_video())
        return open_picture(source)
    except ImageError as error:
        raise ImageError("of_file", name=name, reason=error) from error
