"""The backend for native models: encodes the pictures, prefills the prompt, then samples tokens or runs a beam search.

`S` prompt length · `k` tokens reused from the KV cache · `n` slices of a picture · `Q` queries · `D` width

    keys [S] ── the first k are reused ──────────┐
    pictures in k..S ── encoded, or from cache ──┴─> embeddings [1, S - k, D] ── prefilled in chunks ──> logits ──> ids

No generated token is suppressed: apart from the stop token, these models generate no control tokens.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Sequence, Set
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteriaList

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.backends.base import Request, Step
from omnilmm.engine.backends.cuda_graph import StaticCacheSlots
from omnilmm.engine.backends.decoder import Decoder
from omnilmm.engine.backends.sampler import Sampler
from omnilmm.engine.backends.stepwise import Ids, generate_arguments, stepwise
from omnilmm.engine.caches.features import FEATURE_BYTES, FeatureKey, ImageEncoder
from omnilmm.engine.caches.prefix import PREFIX_BYTES, PrefixCache
from omnilmm.engine.events import PictureSlice, Progress
from omnilmm.engine.options import BeamSearch, Greedy, Options, Sampling
from omnilmm.engine.picture_slices import picture_slices
from omnilmm.engine.scheduler import AT_ONCE
from omnilmm.engine.thoughts import ThinkingFormat, mark_ids
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor, View
from omnilmm.prompts.pieces import Prompt

PREFILL_TOKENS = 512  # prefilled in one step, during which other answers wait


class NativeBackend:
    """A `base.Backend` for native models.

    Args:
        model: a model of this package.
        processor: the processor of the same checkpoint.
        feature_bytes: size of the image feature cache.
        prefix_bytes: size of the prefix cache.
        static_slots: maximum number of static cache slots on a GPU, one per concurrent answer.
    """

    suppressed_ids: Set[int] = frozenset()

    def __init__(
        self,
        model: PictureModel,
        processor: MiniCPMVProcessor,
        feature_bytes: int = FEATURE_BYTES,
        prefix_bytes: int = PREFIX_BYTES,
        static_slots: int = AT_ONCE,
    ) -> None:
        self.model, self.processor = model, processor
        self.tokenizer, self.stop_ids = processor.tokenizer, processor.stop_ids
        self.thinking = _thinking(processor)
        # Prompts of conversations still referenced, by the settings for thinking and for slices.
        self.prompts: WeakKeyDictionary[Conversation, dict[tuple[bool, int | None], Prompt]] = WeakKeyDictionary()
        self.image_encoder = ImageEncoder(model, processor, feature_bytes)
        self.prefixes = PrefixCache(prefix_bytes)
        # An accelerator computes while the CPU prepares the next step.
        self.works_ahead = model.device.type in ("cuda", "mps")
        # CUDA graphs are used on a single GPU only, not for models spread over several devices.
        is_together = len({parameter.device for parameter in model.parameters()}) == 1
        self.static_slots = StaticCacheSlots(model, static_slots if model.device.type == "cuda" and is_together else 0)

    def length(self, conversation: Conversation, options: Options | None = None) -> int:
        """Return the number of prompt tokens of a conversation."""
        return len(self._prompt(conversation, options))

    def count(self, text: str) -> int:
        """Return the number of tokens of a text on its own."""
        return self.processor.encoder.count(text)

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...]:
        """Return how a picture is sliced for the model: the overview, then the slices of the resized picture."""
        plan = self.processor.plan(picture, options.max_slices if options else None)
        return picture_slices(plan, picture.image.size, self.processor.encoder.query_num)

    def forget(self, owner: Hashable) -> None:
        """Drop the prefix cached for an owner."""
        self.prefixes.forget(owner)

    def free(self) -> int:
        """Clear the feature cache, the prefix cache and the free static cache slots; returns the bytes freed."""
        return self.image_encoder.cache.clear() + self.prefixes.clear() + self.static_slots.clear()

    def generate(self, request: Request) -> Generator[Step]:
        """See `base.Backend`."""
        prompt = self._prompt(request.conversation, request.options)
        views = self.processor.views(request.conversation, request.options.max_slices)
        feature_keys = self.image_encoder.keys(views)
        keys = self.keys(prompt, feature_keys)
        handle = self.prefixes.acquire(request.owner, keys[:-1])  # the last token is recomputed for its logits
        decoder = handle.prefix if isinstance(handle.prefix, Decoder) else Decoder(self.model)
        request.picture_tokens = sum(prompt.image_slots)
        request.text_tokens = len(prompt) - request.picture_tokens
        request.reused = decoder.length
        try:
            embeds = yield from self._embed(views, prompt, feature_keys, decoder.length)
            if isinstance(request.options, BeamSearch):
                yield from self._search(request.options, decoder, keys, embeds)
            else:
                yield from self._sample(request.options, request.seed, decoder, keys, embeds)
        finally:
            is_usable = decoder.cut(min(decoder.length, len(decoder.keys)))  # drop a token launched ahead
            handle.release(decoder if is_usable else None)

    def _prompt(self, conversation: Conversation, options: Options | None) -> Prompt:
        """Return the prompt of a conversation; it is built once per combination of settings."""
        thinking = self.thinking is not None and self.thinking.is_enabled(options.thinking if options else None)
        max_slices = options.max_slices if options else None
        made = self.prompts.setdefault(conversation, {})
        if (thinking, max_slices) not in made:
            prompt = self.processor.prompt(conversation, with_labels=False, thinking=thinking, max_slices=max_slices)
            made[thinking, max_slices] = prompt
        return made[thinking, max_slices]

    def keys(self, prompt: Prompt, pictures: list[FeatureKey]) -> list[Hashable]:
        """Return the keys [S] by which prompts are compared: token ids, and feature keys at the picture slots."""
        shown = (key for key in pictures for _ in range(len(key.plan.sizes) * self.processor.encoder.query_num))
        return [
            next(shown) if is_slot else token
            for token, is_slot in zip(prompt.input_ids, prompt.image_slots, strict=True)
        ]

    def _embed(
        self, views: list[View], prompt: Prompt, feature_keys: list[FeatureKey], begin: int
    ) -> Generator[Step, None, Tensor]:
        """Return the embeddings [1, S - k, D] of the tokens that are not reused; only their pictures are encoded."""
        needed = list(self._needed(views, feature_keys, sum(prompt.image_slots[:begin])))
        new = {key: view for view, key, _ in needed if key not in self.image_encoder.cache}
        progress = dict(zip(new, _reading(list(new.values())), strict=True))
        seen = []
        for view, key, known in needed:
            if key in progress:
                yield progress.pop(key)
            for features in self.image_encoder.encode(view, key):
                if features is None:
                    yield None
                else:
                    seen.append(features.flatten(0, 1)[known:])  # [slots, D]
        device = self.model.device
        ids = torch.tensor([prompt.input_ids[begin:]], device=device)
        is_slot = torch.tensor([prompt.image_slots[begin:]], device=device)
        return self.model.merge(ids, is_slot, torch.cat(seen)[None] if seen else None)

    def _needed(
        self, views: Sequence[View], feature_keys: list[FeatureKey], known: int
    ) -> Iterator[tuple[View, FeatureKey, int]]:
        """Yield the views with slots after the first `known` ones, and how many of their slots are already known."""
        for view, key in zip(views, feature_keys, strict=True):
            slots = len(key.plan.sizes) * self.processor.encoder.query_num
            if known < slots:
                yield view, key, known
            known = max(known - slots, 0)

    def _read(self, decoder: Decoder, keys: list[Hashable], embeds: Tensor, end: int) -> Generator[Progress]:
        """Prefill the prompt up to `end` in chunks, between which other answers run their steps."""
        first = decoder.length
        total = len(keys) - first
        yield Progress("prefill", 0, total)
        for start in range(first, end, PREFILL_TOKENS):
            stop = min(start + PREFILL_TOKENS, end)
            decoder.prefill(embeds[:, start - first : stop - first], keys[start:stop])
            yield Progress("prefill", stop - first, total)

    def _sample(
        self, options: Sampling | Greedy, seed: int, decoder: Decoder, keys: list[Hashable], embeds: Tensor
    ) -> Generator[Step]:
        # The last chunk has at least one token, whose logits are needed.
        last = (len(keys) - decoder.length - 1) % PREFILL_TOKENS + 1
        yield from self._read(decoder, keys, embeds, len(keys) - last)
        logits = decoder.forward(embeds[:, -last:], keys[-last:])
        slot = self.static_slots.acquire(len(keys) + options.max_new_tokens)
        if slot is not None:
            decoder.attach(slot)
        try:
            yield from self._draw(Sampler(options, seed, logits.device), options.max_new_tokens, decoder, logits)
        finally:
            decoder.detach()
            if slot is not None:
                self.static_slots.release(slot)

    def _draw(self, sampler: Sampler, most: int, decoder: Decoder, logits: Tensor) -> Generator[Ids]:
        ids: Ids = []
        embed = self.model.get_input_embeddings()
        for left in reversed(range(most)):
            drawn = sampler.draw(logits)
            token = _Readback(drawn)
            if self.works_ahead and left:
                logits = decoder.forward(embed(drawn))
            ids.append(token.value())
            yield list(ids)
            if ids[-1] in self.stop_ids or not left:
                return
            if self.works_ahead:
                decoder.keys.append(ids[-1])
            else:
                logits = decoder.forward(embed(drawn), ids[-1:])

    def _search(self, options: BeamSearch, decoder: Decoder, keys: list[Hashable], embeds: Tensor) -> Generator[Step]:
        """Run a beam search with `generate`, which prefills the last prompt token itself; only the prompt is cached."""
        first = decoder.length
        yield from self._read(decoder, keys, embeds, len(keys) - 1)
        # For the tokens in the cache, `generate` only needs their number, so their embeddings may be zeros.
        whole = torch.cat([embeds.new_zeros(1, first, embeds.shape[2]), embeds], dim=1)
        arguments = GenerationConfig(**generate_arguments(options, self.stop_ids))

        def generate(stopping: StoppingCriteriaList) -> Tensor:
            found: Tensor = self.model.generate(
                inputs_embeds=whole,
                past_key_values=decoder.beams(options.beams) if decoder.length else None,
                stopping_criteria=stopping,
                generation_config=arguments,
            )
            return found

        yield from stepwise(generate)


def _thinking(processor: MiniCPMVProcessor) -> ThinkingFormat | None:
    """Return the thinking format of a template with a switch, whose prompt opens a thought or contains an empty one."""
    if processor.thinking is None:
        return None
    return ThinkingFormat(processor.thinking, frozenset({True}), mark_ids(processor.tokenizer))


def _reading(views: list[View]) -> Iterator[Progress]:
    """Yield the progress to report before each view is encoded; pictures and video frames are counted separately."""
    pictures = sum(not view.is_video for view in views)
    frames = sum(len(view.pictures) for view in views if view.is_video)
    picture = frame = 0
    for view in views:
        if view.is_video:
            frame += len(view.pictures)
            yield Progress("frames", frame, frames)
        else:
            picture += 1
            yield Progress("encoding", picture, pictures)


class _Readback:
    """A sampled token being copied to the CPU; the next step can be launched before it arrives."""

    def __init__(self, token: Tensor) -> None:
        self.token = token
        self.arrived: Any = None
        if token.device.type == "cuda":
            self.token = token.to("cpu", non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record(torch.cuda.current_stream(token.device))
        elif token.device.type == "mps":  # not tested: no Mac
            self.token = token.to("cpu", non_blocking=True)
            self.arrived = torch.mps.event.Event()
            self.arrived.record()

    def value(self) -> int:
        """Wait for the token and return it."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return int(self.token)
