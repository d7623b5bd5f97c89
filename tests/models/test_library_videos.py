"""Videos of MiniCPM-V 4.6 and 4.7 as transformers' own video processor prepares them.

Its two functions of torchvision are replaced by torch's here, which gives the same bits: measured once with torchvision
0.28, and wherever torchvision is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.utils import is_torchvision_available
from transformers.video_utils import VideoMetadata

from omnilmm.conversation import Picture, Video
from omnilmm.images.video_sampling import frame_indices
from omnilmm.images.videos import open_video
from omnilmm.models.library_videos import FrameProcessor, frames_of
from omnilmm.versions import ON_SECONDS, VideoSampling
from tests.images.drawn_videos import drawn

SIZES = [(1280, 720), (200, 640), (320, 240), (448, 448), (1000, 130)]


class WholeProcessor(FrameProcessor):
    """The library's processor with its own sampling and resizing; torch's kernel is the one that torchvision calls."""

    def resize(self, image: Tensor, size: Any, **_: Any) -> Tensor:
        shape, target = image.shape, (size.height, size.width)
        flat = interpolate(image.reshape(-1, *shape[-3:]), target, mode="bicubic", antialias=True)
        return flat.reshape(*shape[:-2], *target)


def the_librarys(processor: FrameProcessor, frames: list[Image.Image], fps: float, detail: str) -> Any:
    """What the processor makes of a whole video by its own sampling and resizing."""
    raw = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).permute(0, 3, 1, 2)
    about = VideoMetadata(total_num_frames=len(raw), fps=fps, duration=len(raw) / fps)
    return processor([raw], video_metadata=[about], max_slice_nums=1, downsample_mode=detail, return_tensors="pt")


def ours(processor: FrameProcessor, video: Video, detail: str) -> Any:
    frames = frames_of(video, range(len(video.frames)), processor, detail)
    fixed = {"do_sample_frames": False, "do_resize": False}
    return processor([frames], downsample_mode=detail, return_tensors="pt", **fixed)


@pytest.mark.parametrize("detail", ["16x", "4x"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_frames_are_prepared_as_the_library_does(size: tuple[int, int], detail: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    small = [Image.fromarray(random.integers(0, 256, (9, 16, 3), dtype=np.uint8)) for _ in range(5)]
    path = drawn(tmp_path / "a.mp4", 5, 2, size, images=[image.resize(size, 3) for image in small])
    with av.open(str(path)) as file:
        whole = [frame.to_image() for frame in file.decode(video=0)]
    wanted = the_librarys(WholeProcessor(), whole, 2.0, detail)
    video = open_video(path, ON_SECONDS)
    assert video.times_s == (0.0, 1.0, 2.0) and video.size == size
    exact = Video(tuple(Picture(whole[place]) for place in (0, 2, 4)), video.times_s, video.duration_s, size)
    for found, most in ((ours(FrameProcessor(), exact, detail), 0), (ours(FrameProcessor(), video, detail), 8)):
        assert torch.equal(found["target_sizes_videos"], wanted["target_sizes_videos"])
        assert found["num_frames_per_video"] == wanted["num_frames_per_video"] == [3]
        levels = (found["pixel_values_videos"] - wanted["pixel_values_videos"]).abs() * 127.5
        assert levels.max() <= most + 0.01
        assert levels.mean() < 0.02 or (detail == "4x" and size == (1280, 720))  # resized twice


def test_pillow_in_the_decoder_differs_by_one_level_at_most(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (720, 1280, 3), dtype=np.uint8))
    by_torch = interpolate(
        torch.from_numpy(np.array(image)).permute(2, 0, 1)[None], (336, 616), mode="bicubic", antialias=True
    )
    by_pillow = np.asarray(image.resize((616, 336), Image.Resampling.BICUBIC))
    levels = np.abs(by_torch[0].permute(1, 2, 0).numpy().astype(int) - by_pillow)
    assert levels.max() <= 1 and (levels > 0).mean() < 0.01


@pytest.mark.parametrize("most", [1, 7, 128])
@pytest.mark.parametrize("fps", [0.2, 1.0, 12.5, 23.976, 29.97, 60.0])
def test_the_librarys_frames_are_taken(fps: float, most: int) -> None:
    """Each once: of a video with less than a frame per second the library takes some several times."""
    for total in (1, 2, 5, 29, 30, 31, 100, 1279, 1280, 4000, 12_345):
        about = VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps)
        theirs = FrameProcessor().sample_frames(about, max_num_frames=most, stack_frames=1)
        assert frame_indices(total, fps, VideoSampling(1.0, most, on_seconds=True)) == sorted(set(theirs))


@pytest.mark.skipif(not is_torchvision_available(), reason="compares with torchvision")
def test_torchvision_gives_the_same_bits() -> None:
    from torchvision.transforms.v2 import functional

    pixels = torch.randint(0, 256, (4, 3, 300, 400), dtype=torch.uint8)
    bicubic = functional.InterpolationMode.BICUBIC
    assert torch.equal(
        functional.resize(pixels, [336, 616], interpolation=bicubic, antialias=True),
        interpolate(pixels, (336, 616), mode="bicubic", antialias=True),
    )
    mean, std = torch.tensor([0.5, 0.4, 0.3]) * 255, torch.tensor([0.5, 0.6, 0.7]) * 255
    assert torch.equal(
        functional.normalize(pixels.float(), mean, std), FrameProcessor().normalize(pixels.float(), mean, std)
    )
