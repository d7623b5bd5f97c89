"""Encodes each picture once: its features are kept under the hash of its pixels, whatever file it came from.

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

from omnilmm.conversation import Picture
from omnilmm.engine.caches.lru import LRUCache
from omnilmm.images.pixels import cut
from omnilmm.images.slicing import SlicePlan
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor

FEATURE_BYTES = 256 * 2**20
SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class FeatureKey:
    """The key of a picture's features: what they depend on.

    Attributes:
        digest: of its pixels.
        plan: its slices.
        padded: patches that every slice is padded to; None for each slice's own number.
    """

    digest: str
    plan: SlicePlan
    padded: int | None


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

    def keys(self, pictures: Sequence[Picture], max_slices: int | None = None) -> list[FeatureKey]:
        """The keys of the pictures of one prompt, each cut into so many slices at most; no pixel is touched."""
        plans = [self.processor.plan(picture, max_slices) for picture in pictures]
        padded = None
        if self.model.config.pads_to_longest:
            padded = max((w * h // self._patch_area for plan in plans for w, h in plan.sizes), default=None)
        return [FeatureKey(picture.digest, plan, padded) for picture, plan in zip(pictures, plans, strict=True)]

    def encode(self, picture: Picture, key: FeatureKey) -> Iterator[Tensor | None]:
        """The features [n, Q, D] of a picture, at the end; None after every batch of slices before."""
        features = self.cache.get(key)
        if features is None:
            batches = []
            for batch in self._batches(picture, key):
                yield None
                batches.append(batch)
            features = torch.cat(batches)
            self.cache.put(key, features, features.nbytes)
        yield features

    def _batches(self, picture: Picture, key: FeatureKey) -> Iterator[Tensor]:
        """Features of slices of one shape at a time, in the order of the slices."""
        strips, sizes = self.processor.strips(cut(picture.image, key.plan))  # [n, 3, P, P·L]
        patch = strips.shape[-2]
        for begin, end in _runs(key.plan):
            length = key.padded or int(sizes[begin].prod())
            batch = strips[begin:end, ..., : length * patch]
            batch = F.pad(batch, (0, length * patch - batch.shape[-1]))
            device = self.model.device
            yield self.model.get_image_features(batch.to(device, self.model.dtype), sizes[begin:end].to(device))

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
