"""Sample the frames of a video, group them and compute their time ids. Pure numbers.

Source: the makers' examples of MiniCPM-V 2.6 and 4.0 (one frame per second, 64 at most) and of 4.5 (5 per second; more
than 180 are packed in groups of up to 3, each frame with its time in tenths of a second); for 4.6 and 4.7
`sample_frames` of transformers' MiniCPMV4_6VideoProcessor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omnilmm.conversation import Video
from omnilmm.versions import VideoSampling

TIME_SCALE_S = 0.1


def frame_indices(total: int, fps: float, sampling: VideoSampling) -> list[int]:
    """Return the indices of the frames to sample, in order and without duplicates.

    Args:
        total: number of frames of the video, at least 1.
        fps: frame rate of the video.
        sampling: sampling of the model.
    """
    if sampling.on_seconds:
        return _on_seconds(total, fps, sampling.most)
    if not sampling.has_times:
        every = max(round(fps / sampling.fps), 1)
        found = list(range(0, total, every))
        return [found[place] for place in spread(len(found), sampling.most)] if len(found) > sampling.most else found
    duration = total / fps
    if sampling.fps * int(duration) <= sampling.most:
        count = round(min(sampling.fps, round(fps) or fps) * min(sampling.most, duration))
    elif _packing(duration, sampling) <= sampling.packing:
        count = round(duration * sampling.fps)
    else:
        count = sampling.most * sampling.packing
    return spread(total, min(max(count, 1), total))


def _on_seconds(total: int, fps: float, most: int) -> list[int]:
    """Return the indices of the frames at whole seconds; of a longer video, `most` from the first to the last.

    Those of a longer one are chosen among its tenths of a second, in the arithmetic of the source.
    """
    duration = total / fps
    if duration <= most:
        chosen = [int(second * fps) for second in range(math.ceil(duration))]
    else:
        tenths = [round(tenth * 0.1, 1) for tenth in range(int(duration / 0.1))]
        chosen = [int(tenths[int(place)] * fps) for place in np.linspace(0, len(tenths) - 1, most, dtype=int)]
    return sorted({min(index, total - 1) for index in chosen})


def spread(total: int, count: int) -> list[int]:
    """Return `count` indices spread evenly over `total`, each in the middle of its interval."""
    gap = total / count
    return [int(number * gap + gap / 2) for number in range(count)]


def groups_of(video: Video, sampling: VideoSampling) -> list[list[int]]:
    """Return the indices into `Video.frames` that a model takes, group by group.

    A video that was opened for a model that takes more frames is subsampled.
    """
    count = len(video.frames)
    if not sampling.has_times:
        return [[place] for place in (spread(count, sampling.most) if count > sampling.most else range(count))]
    most = sampling.most * sampling.packing
    seen = spread(count, most) if count > most else list(range(count))
    is_short = sampling.fps * int(video.duration_s) <= sampling.most
    pack = 1 if is_short else min(_packing(video.duration_s, sampling), sampling.packing)
    pack = min(pack, math.ceil(len(seen) / sampling.most))
    return [seen[first : first + pack] for first in range(0, len(seen), pack)]


def time_ids(times_s: Sequence[float], duration_s: float) -> list[int]:
    """Return times as integer tenths of a second, computed as in training.

    The checkpoint was trained with this floating-point arithmetic, which sometimes loses a tenth (4.3 s becomes 42).
    """
    scale = np.arange(0, duration_s, TIME_SCALE_S) if duration_s > 0 else np.zeros(1)
    nearest = [int(np.abs(scale - time).argmin()) for time in times_s]
    return [int(time) for time in (scale[nearest] / TIME_SCALE_S).astype(np.int32)]


def _packing(duration_s: float, sampling: VideoSampling) -> int:
    return math.ceil(duration_s * sampling.fps / sampling.most)
