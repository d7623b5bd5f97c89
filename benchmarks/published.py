"""Baselines: A, the published demos with the same weights, and C, transformers' `generate` with its defaults.

Each turn encodes every picture of the conversation again, prefills the whole conversation again and decodes with
`generate` and a dynamic cache, one request at a time. As published (A), attention is eager and slices are encoded one
by one; plain (C) uses transformers' default attention and encodes all slices in one batch. Written from a description
of the published code, on the classes of this package; used by the benchmarks only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from omnilmm.conversation import Conversation
from omnilmm.engine.local import LocalEngine, generate_arguments
from omnilmm.engine.options import Options, Sampling


@dataclass(frozen=True)
class Answer:
    """One answer: its ids, the seconds to the first token and in total."""

    ids: list[int]
    first_token_s: float
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed after the first token."""
        return (len(self.ids) - 1) / (self.total_s - self.first_token_s) if len(self.ids) > 1 else 0.0


@torch.inference_mode()
def answer(engine: LocalEngine, conversation: Conversation, options: Options, *, as_published: bool = True) -> Answer:
    """Answer with only the model and the processor of the engine.

    Args:
        engine: engine whose model is used.
        conversation: the whole conversation.
        options: generation options; a sampling seed defaults to 0.
        as_published: eager attention, slices one by one (A); otherwise the default attention, all slices at once (C).
    """
    model, processor = engine.model, engine.processor
    began = time.perf_counter()
    with attention(model, "eager" if as_published else None):
        inputs = processor.inputs(conversation).to(model.device)
        features = None
        if "pixel_values" in inputs:
            features = _encode(model, inputs["pixel_values"], inputs["target_sizes"], one_by_one=as_published)
        embeds = model.merge(inputs["input_ids"], inputs["image_slots"], features)
        clock = _FirstToken()
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(options.seed or 0 if isinstance(options, Sampling) else 0)
            ids = model.generate(
                inputs_embeds=embeds,
                stopping_criteria=StoppingCriteriaList([clock]),
                generation_config=GenerationConfig(**generate_arguments(options, processor.stop_ids)),
            )[0].tolist()
    return Answer(ids, clock.first_s - began, time.perf_counter() - began)


def _encode(model: Any, pixels: Tensor, sizes: Tensor, *, one_by_one: bool) -> Tensor:
    pixels = pixels.to(model.dtype)
    if not one_by_one:
        features: Tensor = model.get_image_features(pixels, sizes)
        return features
    # 2.5 pads every slice to the longest of the prompt; the other versions do not pad.
    is_padded = model.config.pads_to_longest
    patch = pixels.shape[-2]
    found = []
    for strip, size in zip(pixels, sizes, strict=True):
        length = pixels.shape[-1] if is_padded else int(size.prod()) * patch
        found.append(model.get_image_features(strip[None, ..., :length], size[None]))
    return torch.cat(found)


@contextmanager
def attention(model: Any, kind: str | None) -> Iterator[None]:
    """Set the attention implementation of all modules within the block; None leaves it unchanged."""
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values()
    before = [(config, config._attn_implementation) for config in configs]
    if kind is not None:
        for config, _ in before:
            config._attn_implementation = kind
    try:
        yield
    finally:
        for config, chosen in before:
            config._attn_implementation = chosen


class _FirstToken(StoppingCriteria):
    """Records the time of the first token; never stops generation."""

    first_s = 0.0

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        if not self.first_s:
            input_ids[0, -1].item()  # wait until the device has computed it
            self.first_s = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
