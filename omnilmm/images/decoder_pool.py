"""A pool of decoder subprocesses with bounded memory and time (the parent's side of `decoder`).

    content ──> Pool ── one of a few `Decoder`s, kept warm ──> upright RGB picture or frames, or a one-line error

A process is started for the first picture or video (a quarter of a second).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from omnilmm.errors import ImageError
from omnilmm.images.decoding import one_line, opened, upright
from omnilmm.images.limits import PREFIX, Limits, VideoLimits
from omnilmm.images.video_decoding import Frame, Header
from omnilmm.processes.pool import Pool, Process
from omnilmm.sentences import Sentence
from omnilmm.versions import VideoSampling


def decode(content: bytes, limits: Limits) -> Image.Image:
    """Decode the content of a picture file to upright RGB.

    Raises:
        ImageError: The picture cannot be decoded, or not within the limits.
    """
    if limits.processes:
        return _pool.lend(limits, lambda decoder: decoder.decode(content, limits))
    with one_line(limits), opened(content, limits) as image:
        return upright(image)


def decode_video(content: Path | bytes, sampling: VideoSampling, limits: VideoLimits) -> tuple[Header, list[Frame]]:
    """Decode the frames of a video that a model takes.

    Args:
        content: an absolute path, or the bytes of the file.
        sampling: selection of the frames.
        limits: limits on time and memory.

    Raises:
        ImageError: The video cannot be decoded, or not within the limits.
    """
    return _video_pool.lend(limits, lambda decoder: decoder.decode_video(content, sampling, limits))


class Decoder(Process):
    """A decoder subprocess; see `Process`."""

    PROGRAM = "from omnilmm.images.decoder import main; main()"
    ERROR = ImageError

    def not_started(self, reason: Sentence | OSError) -> Sentence:
        """See `Process`."""
        return Sentence("decoder_not_started", reason=reason, variable=f"{PREFIX}PROCESSES")

    def ended(self, status: int | None) -> Sentence:
        """See `Process`."""
        return Sentence("decoder_ended", status=status)

    def decode(self, content: bytes, limits: Limits) -> Image.Image:
        """Decode one picture; the process is killed if it fails to reply properly.

        Raises:
            ImageError: The picture cannot be decoded, or not within the limits.
        """
        return self.ask({}, content, limits, lambda: self._picture(limits))

    def decode_video(
        self, content: Path | bytes, sampling: VideoSampling, limits: VideoLimits
    ) -> tuple[Header, list[Frame]]:
        """Decode one video; errors as for `decode`."""
        request: dict[str, Any] = {"video": asdict(sampling)}
        if isinstance(content, Path):
            request["path"], content = str(content), b""
        return self.ask(request, content, limits, lambda: self._video(limits))

    def _picture(self, limits: Limits) -> Image.Image:
        picture: Image.Image | None = None
        while not (reply := self.reply()).keys() & {"done", "error"}:
            if "opened" in reply:
                width, height = reply["opened"]
                self.size = width * height
            elif "size" in reply:
                width, height = reply["size"]
                if not 0 < width * height <= limits.pixels:
                    raise ValueError(f"a size that is not allowed: {width}×{height}")
                picture = Image.new("RGB", (width, height))
            else:
                left, top, width, height = reply["piece"]
                if not 0 < width * height <= limits.pixels:
                    raise ValueError(f"a piece that is not allowed: {width}×{height}")
                piece = Image.frombytes("RGB", (width, height), self.content(3 * width * height))
                if picture is None:
                    raise ValueError("a piece of no picture")
                picture.paste(piece, (left, top))
        self.finish(reply)
        if picture is None:
            raise ValueError("no picture")
        return picture

    def _video(self, limits: VideoLimits) -> tuple[Header, list[Frame]]:
        header: Header | None = None
        frames: list[Frame] = []
        while not (reply := self.reply()).keys() & {"done", "error"}:
            if "opened" in reply:
                width, height = reply["opened"]
                self.size = width * height
                header = Header((width, height), float(reply["duration_s"]), int(reply["count"]))
                continue
            width, height = reply["frame"]
            if not 0 < width * height <= limits.pixels or header is None or len(frames) >= header.count:
                raise ValueError(f"a frame that is not allowed: {width}×{height}")
            image = Image.frombytes("RGB", (width, height), self.content(3 * width * height))
            frames.append(Frame(image, float(reply["time_s"])))
        self.finish(reply)
        if header is None or not frames:
            raise ValueError("no frames")
        return header, frames


_pool = Pool(Decoder)
_video_pool = Pool(Decoder)  # separate, as a video may take a minute and pictures should not wait for it
