"""Decoding on a GPU with a static KV cache, so that a whole forward pass can be captured as a CUDA graph and replayed.

`n` tokens prefilled · `T` length of a slot · `D` width · `V` vocabulary

    decoder ── attach: KV cache is copied in ──> slot: one token per step ── detach: KV cache is copied out ──>

Replaying a captured pass launches hundreds of kernels at once instead of one by one from Python. Between turns, the KV
cache is kept as on every other device: in a dynamic cache of exactly the length needed.

Not tested on CUDA: no such machine was available. The tests run the same code on the CPU, where nothing is captured.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, StaticLayer

from omnilmm.models.picture_model import PictureModel

SHORTEST = 512
WARM_UPS = 3  # warm-up passes before capture, as required by torch

logger = logging.getLogger(__name__)


class StaticCacheSlot:
    """A static KV cache for one conversation of at most `length` tokens, acquired while an answer is generated."""

    def __init__(self, model: PictureModel, length: int) -> None:
        self.model, self.length = model, length
        layers = model.config.get_text_config(decoder=True).num_hidden_layers
        self.cache = Cache(layers=[StaticLayer(max_cache_len=length) for _ in range(layers)])
        self.place = torch.zeros((1, 1), dtype=torch.long, device=model.device)  # position of the next token
        self.seen = torch.zeros((1, 1, 1, length), dtype=torch.bool, device=model.device)
        self.embeds: Tensor | None = None  # [1, 1, D]
        self.logits: Any = None  # [1, V]
        self.graph: Any = None

    def load(self, cache: DynamicCache, tokens: int) -> None:
        """Copy the keys and values of the first `tokens` tokens into the slot."""
        for mine, theirs in zip(self.cache.layers, cache.layers, strict=True):
            if not mine.is_initialized:
                mine.lazy_initialization(theirs.keys, theirs.values)
            mine.keys[:, :, :tokens] = theirs.keys
            mine.values[:, :, :tokens] = theirs.values
        self._set(tokens)

    def unload(self, cache: DynamicCache, tokens: int) -> None:
        """Copy the keys and values of the first `tokens` tokens out of the slot."""
        for mine, theirs in zip(self.cache.layers, cache.layers, strict=True):
            theirs.keys, theirs.values = (kept[:, :, :tokens].clone() for kept in (mine.keys, mine.values))
            if theirs.is_sliding:
                theirs.cumulative_length = tokens

    def step(self, embeds: Tensor) -> Tensor:
        """Decode one token [1, 1, D]; returns logits [1, V], which the next step overwrites."""
        if self.embeds is None:
            self.embeds = embeds.clone()
            if embeds.device.type == "cuda":
                self._record(int(self.place))
        self.embeds.copy_(embeds)
        if self.graph is None:
            self._pass()
        else:
            self.graph.replay()
        logits: Tensor = self.logits
        return logits

    def _pass(self) -> None:
        """Run one forward pass entirely on the device, including the update of the position."""
        self.seen.index_fill_(3, self.place[0], True)
        self.logits = self.model(
            inputs_embeds=self.embeds,
            position_ids=self.place,
            attention_mask=self.seen,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self.place.add_(1)

    def _record(self, tokens: int) -> None:
        """Capture a forward pass as a CUDA graph; if that fails, decoding continues without one."""
        side = torch.cuda.Stream(self.model.device)
        side.wait_stream(torch.cuda.current_stream(self.model.device))
        with torch.cuda.stream(side):
            for _ in range(min(WARM_UPS, self.length - tokens)):
                self._pass()
        torch.cuda.current_stream(self.model.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._pass()
            self.graph = graph
        except RuntimeError:
            logger.info("This model's passes cannot be recorded", exc_info=True)
        self._set(tokens)

    def _set(self, tokens: int) -> None:
        self.place.fill_(tokens)
        self.seen.fill_(False)
        self.seen[..., :tokens] = True
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(tokens)


class StaticCacheSlots:
    """The static cache slots of a model, reused from answer to answer.

    Args:
        model: the model, on its device.
        most: maximum number of slots: one per concurrent answer.
    """

    def __init__(self, model: PictureModel, most: int) -> None:
        self.model, self.most = model, most
        self.free: list[StaticCacheSlot] = []
        self.taken = 0

    def acquire(self, tokens: int) -> StaticCacheSlot | None:
        """Acquire a slot for at least `tokens` tokens; None if all are in use."""
        fitting = [slot for slot in self.free if slot.length >= tokens]
        if not fitting and self.taken + len(self.free) >= self.most and self.free:
            self.free.remove(min(self.free, key=lambda slot: slot.length))  # makes room for a longer one
        if fitting:
            slot = min(fitting, key=lambda slot: slot.length)
            self.free.remove(slot)
        elif self.taken < self.most:
            slot = StaticCacheSlot(self.model, max(SHORTEST, 1 << (tokens - 1).bit_length()))
        else:
            return None
        self.taken += 1
        return slot

    def release(self, slot: StaticCacheSlot) -> None:
        """Return a slot, so that it can be acquired again."""
        self.taken -= 1
        self.free.append(slot)

    def clear(self) -> int:
        """Drop the slots that are not in use; returns how many bytes were freed."""
        tensors = (t for slot in self.free for layer in slot.cache.layers for t in (layer.keys, layer.values))
        freed = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        self.free.clear()
        return freed
