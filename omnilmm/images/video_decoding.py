"""Decode a video file to upright RGB frames, only those that a model takes.

    file ──demux──> timestamps of all frames ──sample──> a few of them ──seek, decode──> frames, resized

All packets are read first, without decoding, so that frames are counted rather than taken from the header: files from
cameras and browsers may have no duration or a wrong one. FFmpeg gets the open file, a list of container formats and no
protocols, so files that refer to other files or addresses (HLS, concat) are not followed. Time and memory are not
bounded here but by the process that runs this (`decoder`).
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from omnilmm.errors import VideoError
from omnilmm.images.decoding import resize
from omnilmm.images.limits import VideoLimits
from omnilmm.images.slicing import SlicingRules, plan_slices
from omnilmm.images.video_sampling import frame_indices
from omnilmm.versions import VideoSampling

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,asf,flv,h264,hevc,ivf,mjpeg,m4v"
THREADS = 2
NO_MEMORY = (errno.ENOMEM, errno.EAGAIN)  # EAGAIN if a thread cannot be started
# Every published model that takes videos encodes a frame without slicing, at about 448² pixels.
RULES = SlicingRules(max_slices=1)
ROUNDED_S = 0.001  # Matroska rounds times to milliseconds
MOST_FRAMES = 10_000_000  # per file: 90 hours at 30 per second


@dataclass(frozen=True)
class Header:
    """Metadata of a video, yielded before its frames.

    Attributes:
        size: (width, height), upright.
        duration_s: duration according to its frames.
        count: number of the frames that follow, if none is damaged.
    """

    size: tuple[int, int]
    duration_s: float
    count: int


@dataclass(frozen=True)
class Frame:
    """One frame and its timestamp."""

    image: Image.Image
    time_s: float


def decoded(file: BinaryIO, sampling: VideoSampling, limits: VideoLimits) -> Iterator[Header | Frame]:
    """Yield the header once the first frame is decoded, then the frames in order.

    Args:
        file: seekable file, open for reading.
        sampling: selection of the frames.
        limits: limits on the size of frames.

    Raises:
        VideoError: The file is not a readable video, or its frames are too large.
    """
    import av

    try:
        with _opened(file) as video:
            clock = _Clock(video, _stream_of(video, limits))
        file.seek(0)
        with _opened(file) as video:
            yield from _frames(video, clock, sampling, limits)
    except av.FFmpegError as error:
        if error.errno in NO_MEMORY:
            raise VideoError.of(limits.too_much_memory()) from error
        reason = (getattr(error, "strerror", None) or str(error)).strip()
        raise VideoError("no_video", reason=reason[:100]) from error


def _opened(file: BinaryIO) -> InputContainer:
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    return av.open(file, mode="r", container_options=options)


def _stream_of(video: InputContainer, limits: VideoLimits) -> Any:
    # The cover art of an audio file is a video stream with one picture.
    streams = [stream for stream in video.streams.video if "attached_pic" not in str(stream.disposition).lower()]
    if not streams:
        raise VideoError("sound_only")
    stream: Any = streams[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.pixels:
        raise VideoError.of(limits.too_many_pixels((width, height)))
    stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
    return stream


def _frames(
    video: InputContainer, clock: _Clock, sampling: VideoSampling, limits: VideoLimits
) -> Iterator[Header | Frame]:
    stream = _stream_of(video, limits)
    wanted = [clock.shown[index] for index in frame_indices(len(clock.shown), clock.fps, sampling)]
    size: tuple[int, int] | None = None
    # Only these have an index; in other containers seeking may end after the target.
    can_seek = any(name in video.format.name for name in ("mp4", "matroska", "avi"))
    for pts, frame in _sought(video, stream, wanted, clock.keys if can_seek else []):
        image = _upright(frame, stream)
        if image.width * image.height > limits.pixels:
            raise VideoError.of(limits.too_many_pixels(image.size))
        if size is None:
            size = image.size
            yield Header(size, clock.duration_s, len(wanted))
        elif image.size != size:  # some streams change their size midway
            image = image.resize(size, Image.Resampling.BICUBIC)
        seen = plan_slices(size, replace(RULES, patch_size=sampling.multiple)).overview
        yield Frame(resize(image, seen) if seen[0] * seen[1] < size[0] * size[1] else image, clock.time_of(pts))
    if size is None:
        raise VideoError("no_frames")


class _Clock:
    """Timestamps of the frames of a stream.

    Attributes:
        shown: pts of all frames, in order.
        keys: pts of the keyframes, in order.
        fps: average frame rate.
        duration_s: number of frames / fps, as the published examples compute it.
    """

    def __init__(self, video: InputContainer, stream: Any) -> None:
        import av

        shown: set[int] = set()
        keys: list[int] = []
        packets = video.demux(stream)
        while len(shown) < MOST_FRAMES:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:  # truncated, or damaged from here on: use the frames before
                if error.errno in NO_MEMORY:
                    raise
                break
            if packet is None:
                break
            pts = packet.pts if packet.pts is not None else packet.dts
            if pts is None or not packet.size or packet.is_discard:
                continue
            shown.add(pts)
            if packet.is_keyframe:
                keys.append(pts)
        if not shown:
            raise VideoError("no_frames")
        self.shown, self.keys = sorted(shown), sorted(keys)
        self.tick_s = float(stream.time_base or 1)
        span_s = (self.shown[-1] - self.shown[0]) * self.tick_s
        declared = float(stream.average_rate or stream.guessed_rate or 0)
        counted = (len(self.shown) - 1) / span_s if span_s > 0 else declared or 25.0
        self.fps = declared if declared > 0 and abs(declared / counted - 1) < 0.02 else counted
        self.duration_s = len(self.shown) / self.fps

    def time_of(self, pts: int) -> float:
        """Return the seconds since the first frame: index / fps at a constant rate, as published, else from the pts."""
        time_s = (pts - self.shown[0]) * self.tick_s
        even_s = (bisect_right(self.shown, pts) - 1) / self.fps
        return even_s if abs(even_s - time_s) <= max(self.tick_s, ROUNDED_S) else time_s


def _sought(
    video: InputContainer, stream: Any, wanted: list[int], keys: list[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the wanted frames, each once; instead of a damaged one, the next that can be decoded."""
    import av

    decoder, reached = _decoded(video, stream), None
    held: tuple[int, av.VideoFrame] | None = None
    for pts in wanted:
        if reached is not None and reached >= pts:
            continue  # this frame was damaged, and a later one was yielded instead
        key = _key_before(keys, pts)
        if key is not None and key > (keys[0] if reached is None else reached):
            try:
                video.seek(key, stream=stream, backward=True)
                decoder = _decoded(video, stream)
            except av.FFmpegError:
                pass  # decode up to there instead of seeking
        for at, frame in decoder:
            held = (at, frame)
            if at >= pts:
                reached = at
                yield at, frame
                break
        else:
            if held is not None and (reached is None or held[0] > reached):
                yield held  # the last decodable frame
            return


def _key_before(keys: list[int], pts: int) -> int | None:
    place = bisect_right(keys, pts)
    return keys[place - 1] if place else None


def _decoded(video: InputContainer, stream: Any) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the pts and frames from the current position on, without damaged ones."""
    import av

    packets = video.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.EOFError:
            return
        except av.InvalidDataError:
            continue
        for frame in frames:
            pts = frame.pts if frame.pts is not None else frame.dts
            if pts is not None:
                yield pts, frame


def _upright(frame: av.VideoFrame, stream: Any) -> Image.Image:
    """Convert a frame to upright RGB with square pixels."""
    image: Image.Image = frame.to_image()
    ratio = float(stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio or 1)
    if 0.1 < ratio < 10 and abs(ratio - 1) > 0.01:
        image = image.resize((max(round(image.width * ratio), 1), image.height), Image.Resampling.BICUBIC)
    turned = round(frame.rotation / 90) % 4  # quarter turns counterclockwise
    turns = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
    return image.transpose(turns[turned]) if turned else image
