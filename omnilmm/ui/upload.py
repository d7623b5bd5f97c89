"""Pictures that visitors upload, opened with their name in the message where that fails."""

from __future__ import annotations

from pathlib import Path

from omnilmm.conversation import Picture
from omnilmm.errors import ImageError
from omnilmm.images.pixels import open_picture

QUOTA_MIB = 512  # of one visitor's uploads together that were not sent yet; another one by `--upload-quota`


def open_upload(name: str, source: Path | bytes) -> Picture:
    """A picture that was uploaded.

    Args:
        name: of the file, for the message.
        source: where it is, or its content.

    Raises:
        ImageError: Why it cannot be used, with its name.
    """
    try:
        return open_picture(source)
    except ImageError as error:
        raise ImageError("of_file", name=name, reason=error) from error
