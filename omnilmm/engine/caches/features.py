"""Encodes each picture once: its features are cached under the hash of its pixels, whatever file it came from.

For a video, every frame, or every group of frames that are encoded together, is such an entry, including its times.

`n` slices of one picture · `L` patches of a slice · `Q` queries · `D` width

Each picture is a separate entry, so adding a picture encodes only that one. Slices of the same shape are encoded in one
batch, without padding. With MiniCPM-Llama3-V 2.5, the features of a slice depend on the longest slice of the whole
prompt, to which it is padded (`models/vision.py`), so that length is part of the key.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from omnilmm.engine.caches.lru import LRUCache
from omnilmm.images.slicing import SlicePlan
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor, View

FEATURE_BYTES = 256 * 2**20
SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class FeatureKey:
    """The cache key of the features of a picture or a group of frames: everything they depend on.

    Attributes:
        digests: hashes of the pixels, one per picture or frame.
        plan: the slicing plan.
        padded: number of patches every slice is padded to; None for no padding.
        times: times of the frames in tenths of a second; None for a picture, or if the model takes no times.
    """

    digests: tuple[str, ...]
    plan: SlicePlan
    padded: int | None
    times: tuple[int, ...] | None = None


class ImageEncoder:
    """Vision tower and resampler of a model, with a cache of their features.

    Args:
        model: the model whose tower and resampler are used.
        processor: slices the pictures.
        limit_bytes: size of the feature cache.
    """

    def __init__(self, model: PictureModel, processor: MiniCPMVProcessor, limit_bytes: int = FEATURE_BYTES) -> None:
        self.model, self.processor = model, processor
        self.cache: LRUCache[Hashable, Tensor] = LRUCache(limit_bytes)

    def keys(self, views: Sequence[View]) -> list[FeatureKey]:
        """Return the feature keys of a prompt's views; reads no pixels."""
        padded = None
        if self.model.config.pads_to_longest:
            padded = max((w * h // self._patch_area for view in views for w, h in view.plan.sizes), default=None)
        return [
            FeatureKey(tuple(picture.digest for picture in view.pictures), view.plan, padded, view.times)
            for view in views
        ]

    def encode(self, view: View, key: FeatureKey) -> Iterator[Tensor | None]:
        """Yield None after every batch of slices, then the features.

        Their shape is [n, Q, D] for a picture, and [1, Q, D] for a group of frames.
        """
        features = self.cache.get(key)
        if features is None:
            batches = []
            for batch in self._batches(view, key):
                yield None
                batches.append(batch)
            features = torch.cat(batches)
            self.cache.put(key, features, features.nbytes)
        yield features

    def _batches(self, view: View, key: FeatureKey) -> Iterator[Tensor]:
        """Yield the features of batches of slices of the same shape, in order; those of a group of frames at once."""
        strips, sizes = self.processor.pixels((picture, view.plan) for picture in view.pictures)  # [n, 3, P, P·L]
        if view.times is not None:
            yield self._features(strips, sizes, [view.times])
            return
        patch = strips.shape[-2]
        for begin, end in _runs(key.plan):
            length = key.padded or int(sizes[begin].prod())
            batch = strips[begin:end, ..., : length * patch]
            batch = F.pad(batch, (0, length * patch - batch.shape[-1]))
            yield self._features(batch, sizes[begin:end])

    def _features(self, strips: Tensor, sizes: Tensor, times: Sequence[Sequence[int]] | None = None) -> Tensor:
        device = self.model.device
        return self.model.get_image_features(strips.to(device, self.model.dtype), sizes.to(device), times)

    @property
    def _patch_area(self) -> int:
        return int(self.model.config.vision_config.patch_size) ** 2


def _runs(plan: SlicePlan) -> Iterator[tuple[int, int]]:
    """Yield the ranges of consecutive slices of the same shape, at most `SLICES_AT_ONCE` each."""
    sizes = plan.sizes
    begin = 0
    while begin < len(sizes):
        end = begin + 1
        while end < len(sizes) and sizes[end] == sizes[begin] and end - begin < SLICES_AT_ONCE:
            end += 1
        yield begin, end
        begin = end
