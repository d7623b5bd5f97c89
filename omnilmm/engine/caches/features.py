"""Encodes each picture once: its features are kept under the hash of its pixels, whatever file it came from.

Of a video every frame, or every group of frames that are read together, is such an entry, with its times.

`n` slices of one picture · `L` patches of a slice · `Q` queries · `D` width

Every picture is an entry of its own, so one more picture is one more encoding. Slices of one shape go through the tower
in one batch, without padding. Of MiniCPM-Llama3-V 2.5 the features of a slice depend on the longest slice of the whole
prompt, to which it is padded (`models/vision.py`), so that length is a part of its key.
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
    """The key of the features of a picture, or of a group of frames: what they depend on.

    Attributes:
        digests: of the pixels, one for each of them.
        plan: the slices.
        padded: patches that every slice is padded to; None for each slice's own number.
        times: of the frames, where the model is told them.
    """

    digests: tuple[str, ...]
    plan: SlicePlan
    padded: int | None
    times: tuple[int, ...] | None = None


class ImageEncoder:
    """Tower and resampler of a model, with a cache of their features.

    Args:
        model: whose tower and resampler.
        processor: slices the pictures.
        limit_bytes: of the features that are kept.
    """

    def __init__(self, model: PictureModel, processor: MiniCPMVProcessor, limit_bytes: int = FEATURE_BYTES) -> None:
        self.model, self.processor = model, processor
        self.cache: LRUCache[Hashable, Tensor] = LRUCache(limit_bytes)

    def keys(self, views: Sequence[View]) -> list[FeatureKey]:
        """The keys of what one prompt shows; no pixel is touched."""
        padded = None
        if self.model.config.pads_to_longest:
            padded = max((w * h // self._patch_area for view in views for w, h in view.plan.sizes), default=None)
        return [
            FeatureKey(tuple(picture.digest for picture in view.pictures), view.plan, padded, view.times)
            for view in views
        ]

    def encode(self, view: View, key: FeatureKey) -> Iterator[Tensor | None]:
        """The features [n, Q, D] of a picture, or [1, Q, D] of a group of frames, at the end.

        None after every batch of slices before.
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
        """Features of slices of one shape at a time, in the order of the slices; of a group of frames at once."""
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
    """Where slices of one shape begin and end: the overview, then those of the grid, `SLICES_AT_ONCE` at most."""
    sizes = plan.sizes
    begin = 0
    while begin < len(sizes):
        end = begin + 1
        while end < len(sizes) and sizes[end] == sizes[begin] and end - begin < SLICES_AT_ONCE:
            end += 1
        yield begin, end
        begin = end
