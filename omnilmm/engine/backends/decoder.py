"""A native model with the KV cache of one conversation and the keys of the tokens in it.

`n` new tokens · `D` width · `V` vocabulary
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from omnilmm.engine.backends.cuda_graph import StaticCacheSlot
from omnilmm.models.picture_model import PictureModel

# With few tokens, the built-in model (11 MiB of weights) runs a fifth faster on one of two cores than on both, and many
# times faster on a busy machine: there is too little work to distribute. Larger models are bound by memory bandwidth,
# of which several cores get more.
SMALL_BYTES = 64 * 2**20
FEW_TOKENS = 32


@contextmanager
def one_thread(is_wanted: bool) -> Iterator[None]:
    """Run torch on a single CPU thread within the block, if `is_wanted`."""
    threads = torch.get_num_threads()
    if not is_wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Decoder:
    """The language model with the KV cache of one conversation; implements `prefix.CachedPrefix`.

    Attributes:
        keys: keys of the tokens in the cache, as far as they are known (see `prefix.py`).
        length: number of tokens in the cache.
    """

    def __init__(self, model: PictureModel) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        self.keys: list[Hashable] = []
        self.length = 0
        self.is_whole = True
        self.slot: StaticCacheSlot | None = None
        weights = (parameter.nbytes for parameter in model.get_decoder().parameters())
        self.is_small = model.device.type == "cpu" and sum(weights) < SMALL_BYTES

    @property
    def nbytes(self) -> int:
        """The number of bytes the KV cache occupies."""
        return sum(tensor.untyped_storage().nbytes() for layer in self._layers for tensor in (layer.keys, layer.values))

    @property
    def _layers(self) -> list[Any]:
        return [layer for layer in self.cache.layers if layer.is_initialized]

    def forward(self, embeds: Tensor, keys: Sequence[Hashable] = ()) -> Tensor:
        """Run the next tokens through the model.

        Args:
            embeds: embeddings [1, n, D].
            keys: keys of these tokens; those of sampled tokens that are still on the device may be added later.

        Returns:
            Logits [1, V] for the token after the last one.
        """
        if self.slot is None:
            with one_thread(self.is_small and embeds.shape[1] <= FEW_TOKENS):
                logits: Tensor = self._pass(self.model, embeds, keys, logits_to_keep=1).logits[:, -1]
            return logits
        self.is_whole = False
        logits = self.slot.step(embeds)
        self._count(embeds, keys)
        return logits

    def prefill(self, embeds: Tensor, keys: Sequence[Hashable]) -> None:
        """Prefill tokens without computing logits."""
        self._pass(self.model.get_decoder(), embeds, keys)

    def _pass(self, part: nn.Module, embeds: Tensor, keys: Sequence[Hashable], **more: int) -> Any:
        self.is_whole = False  # an aborted pass leaves some layers longer than others
        output = part(inputs_embeds=embeds, past_key_values=self.cache, use_cache=True, **more)
        self._count(embeds, keys)
        return output

    def _count(self, embeds: Tensor, keys: Sequence[Hashable]) -> None:
        self.length += embeds.shape[1]
        self.keys += keys
        self.is_whole = True

    def attach(self, slot: StaticCacheSlot) -> None:
        """Move the KV cache into a static cache slot and decode there from now on, see `cuda_graph.py`."""
        slot.load(self.cache, self.length)
        self.slot = slot

    def detach(self) -> None:
        """Copy the KV cache back out of the slot and stop using it."""
        if self.slot is not None and self.is_whole:
            self.slot.unload(self.cache, self.length)
        self.slot = None

    def cut(self, length: int) -> bool:
        """Truncate to the first `length` tokens; returns False if that is impossible and the cache is unusable."""
        if not self.is_whole or any(_has_slid(layer) for layer in self._layers):
            return False
        if length < self.length:
            self.cache.crop(length - self.length)
        self.length = length
        del self.keys[length:]
        return True

    def beams(self, count: int) -> DynamicCache:
        """Return a copy of the KV cache for a beam search, repeated for `count` beams."""
        copied = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        for number, layer in enumerate(self._layers):
            copied.update(layer.keys.expand(count, -1, -1, -1), layer.values.expand(count, -1, -1, -1), number)
        return copied


def _has_slid(layer: Any) -> bool:
    """Return whether the sliding window is full: tokens that have left it cannot be restored by truncating."""
    return bool(layer.is_sliding and layer.get_seq_length() >= layer.sliding_window)
