"""Videos of MiniCPM-V 4.6 and 4.7: frames through transformers' own video processor, which they share.

That class is defined without torchvision, and needs it for two functions: `resize`, which is done here for all frames
of a video at once, and `normalize`. Both do what torchvision does, to the bit (measured with torchvision 0.28 and
torch 2.13). Where torchvision is installed, the processor is transformers' own.

Frames arrive at about the model's size, resized by Pillow in the decoder; that differs from torch's kernel by 1 of 255
in about 0.5 % of all values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor

from omnilmm.conversation import Picture, Video

# Classes of processors whose video part is `MiniCPMV4_6VideoProcessor`.
PROCESSORS = ("MiniCPMV4_6Processor", "MiniCPMV4_7Processor")


class FrameProcessor(MiniCPMV4_6VideoProcessor):
    """`MiniCPMV4_6VideoProcessor` for frames at the model's size, without torchvision."""

    def normalize(self, image: Tensor, mean: Tensor, std: Tensor, inplace: bool = False, **_: Any) -> Tensor:
        """Return (image - mean) / std.

        Args:
            image: float [..., 3, H, W].
            mean: of each channel, [3].
            std: of each channel, [3].
            inplace: overwrite `image`.
        """
        centred = image.sub_(mean[:, None, None]) if inplace else image.sub(mean[:, None, None])
        return centred.div_(std[:, None, None])


def takes_videos(processor: Any) -> bool:
    """Return whether a processor takes the frames of a video as `frames_of` returns them."""
    return isinstance(getattr(processor, "video_processor", None), MiniCPMV4_6VideoProcessor)


def frames_of(video: Video, places: Sequence[int], processor: MiniCPMV4_6VideoProcessor, detail: str | None) -> Tensor:
    """Return frames of a video as uint8 [T, 3, H, W], at the size that the model takes without slices.

    Args:
        video: the video.
        places: indices of the frames to take.
        processor: the video processor of the checkpoint.
        detail: `downsample_mode` if not that of the checkpoint.
    """
    width, height = video.size
    target = processor.find_best_resize(
        (height, width),
        processor.scale_resolution,
        processor.patch_size,
        allow_upscale=True,
        downsample_mode=detail or processor.downsample_mode,
    )
    return torch.stack([_resized(video.frames[place], target) for place in places])


def _resized(frame: Picture, target: tuple[int, int]) -> Tensor:
    pixels = torch.from_numpy(np.array(frame.image.convert("RGB"))).permute(2, 0, 1)  # [3, h, w]
    if pixels.shape[1:] == target:
        return pixels
    return interpolate(pixels[None], target, mode="bicubic", antialias=True)[0]
