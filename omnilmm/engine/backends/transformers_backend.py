"""The backend for models of transformers: MiniCPM-V 4.6 and 4.7, Qwen-VL, LLaVA and other image-text-to-text models.

The checkpoint's processor builds the model's inputs with its own chat template, and the model's own `generate` encodes
the pictures. So, as usual in transformers, the repetition penalty also applies to tokens of the prompt, and the
returned ids begin with the prompt.

The model's state after the pictures is cached between turns, see `picture_state.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, GenerationConfig, StoppingCriteriaList

from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.engine.backends.base import Request, Step
from omnilmm.engine.backends.stepwise import generate_arguments, stepwise
from omnilmm.engine.caches.picture_state import REUSING_STATE, PictureState
from omnilmm.engine.caches.prefix import PREFIX_BYTES, PrefixCache
from omnilmm.engine.events import Progress
from omnilmm.engine.options import BeamSearch, Options
from omnilmm.engine.thoughts import ThinkingFormat, mark_ids
from omnilmm.errors import CheckpointError
from omnilmm.prompts.chat_template import ChatTemplate

MEASURED_PICTURES = 4096

ProcessorOptions = dict[str, Any]  # arguments of a processor


class TransformersBackend:
    """A `base.Backend` for an image-text-to-text model of transformers.

    Args:
        model: a model of `AutoModelForImageTextToText`.
        processor: as returned by `models.library.load_processor`.
        prefix_bytes: size of the cache of states after the pictures.

    Raises:
        CheckpointError: No chat template, or no stop token.
    """

    def __init__(self, model: Any, processor: Any, prefix_bytes: int = PREFIX_BYTES) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.template = ChatTemplate(processor)
        self.thinking = _thinking(self.template, self.tokenizer)
        self.stop_ids = _stop_ids(model, self.tokenizer)
        self.suppressed_ids = frozenset(self.tokenizer.convert_tokens_to_ids(sorted(self.template.control_tokens)))
        self.picture_ids = _picture_ids(model, processor)
        self.prefixes = PrefixCache(prefix_bytes if model.config.model_type in REUSING_STATE else 0)
        self.measured: dict[Hashable, tuple[int, int]] = {}
        # A fast tokenizer must not be reconfigured in one thread while another uses it.
        self.lock = threading.Lock()

    def length(self, conversation: Conversation, options: Options | None = None) -> int:
        """Return the number of prompt tokens: those of the text plus those each picture adds on its own.

        The latter are known only from running the processor on the picture, so each picture is measured once.
        """
        words = [replace(message, parts=_words(message)) for message in conversation.messages]
        spoken = replace(conversation, messages=tuple(words))
        shown = sum(self._measure(picture, _processor_options(options))[0] for picture in conversation.pictures)
        return len(self._ids(spoken, self._wish(options))) + shown

    def count(self, text: str) -> int:
        """Return the number of tokens of a text on its own."""
        with self.lock:
            return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def slices(self, picture: Picture, options: Options | None = None) -> None:
        """Return None: the slices are known to the model's own processor only."""

    def generate(self, request: Request) -> Generator[Step]:
        """See `base.Backend`."""
        settings = _processor_options(request.options)
        inputs = dict(self.inputs(request.conversation, request.options))
        if "downsample_mode" in settings:  # the model needs it, too
            inputs["downsample_mode"] = settings["downsample_mode"]
        ids = inputs["input_ids"][0].tolist()
        request.picture_tokens = sum(token in self.picture_ids for token in ids)
        request.text_tokens = len(ids) - request.picture_tokens
        begins = 1 if self.model.config.is_encoder_decoder else len(ids)
        arguments = generate_arguments(request.options, self.stop_ids)
        rows = request.options.beams if isinstance(request.options, BeamSearch) else 1
        yield None
        shown = self._shown(ids, request.conversation, settings)
        handle = self.prefixes.acquire(request.owner, shown)
        memory = handle.prefix if isinstance(handle.prefix, PictureState) else None
        if memory is not None and len(memory.keys) != len(shown):
            memory = None
        request.reused = 0 if memory is None else len(shown)
        try:
            if memory is None:  # `generate` encodes the pictures without reporting progress
                yield Progress("encoding", total=len(set(request.conversation.pictures)))
            if memory is None and shown and request.owner is not None:
                state = PictureState(self.model, shown)
                state.prefill(inputs, arguments)
                memory = state
            if memory is not None:
                yield Progress("prefill", len(shown) - request.reused, len(ids) - request.reused)

            def generate(stopping: StoppingCriteriaList) -> Tensor:
                given: Tensor = self.model.generate(
                    **inputs if memory is None else memory.continue_inputs(inputs, rows),
                    stopping_criteria=stopping,
                    generation_config=GenerationConfig(**arguments),
                )
                return given

            yield from stepwise(generate, begins, _Random(request.seed, self.model.device).around)
        finally:
            handle.release(memory)

    def inputs(self, conversation: Conversation, options: Options | None = None) -> BatchFeature:
        """Return the processor's inputs for the whole conversation, on the model's device."""
        return self._inputs(conversation, self._wish(options), _processor_options(options)).to(
            self.model.device, dtype=self.model.dtype
        )

    def forget(self, owner: Hashable) -> None:
        """Drop the state cached for an owner."""
        self.prefixes.forget(owner)

    def free(self) -> int:
        """Clear the cache; returns how many bytes were freed."""
        return self.prefixes.clear()

    def _shown(self, ids: list[int], conversation: Conversation, settings: ProcessorOptions) -> list[Hashable]:
        """Return the keys of the prompt up to the end of its last picture: token ids, and picture keys at their slots.

        The list is empty if nothing can be cached.
        """
        slots = [
            _key(picture, settings)
            for picture in conversation.pictures
            for _ in range(self._measure(picture, settings)[1])
        ]
        places = [place for place, token in enumerate(ids) if token in self.picture_ids]
        if not places or not self.prefixes.limit_bytes or len(slots) != len(places):
            return []
        keys: list[Hashable] = list(ids)
        for place, digest in zip(places, slots, strict=True):
            keys[place] = digest
        end = places[-1] + 1
        while end < len(ids) - 1 and ids[end] in self.suppressed_ids:
            end += 1  # tokens that close the picture belong to it
        return keys[:end]

    def _wish(self, options: Options | None) -> bool | None:
        """Return whether to think; None for a template without a switch."""
        if self.thinking is None or self.thinking.default is None:
            return None
        return self.thinking.wish(options.thinking if options else None)

    def _inputs(
        self, conversation: Conversation, thinking: bool | None = None, settings: ProcessorOptions | None = None
    ) -> BatchFeature:
        with self.lock:
            return BatchFeature(dict(self.template.inputs(conversation, thinking, settings)))

    def _ids(
        self, conversation: Conversation, thinking: bool | None = None, settings: ProcessorOptions | None = None
    ) -> list[int]:
        ids: list[int] = self._inputs(conversation, thinking, settings)["input_ids"][0].tolist()
        return ids

    def _measure(self, picture: Picture, settings: ProcessorOptions) -> tuple[int, int]:
        """Return how many tokens a picture adds on its own, and how many of them are placeholders for its features."""
        key = _key(picture, settings)
        if key not in self.measured:
            if len(self.measured) >= MEASURED_PICTURES:
                self.measured.clear()
            alone = self._ids(Conversation().with_message("user", "?"))
            shown = self._ids(Conversation().with_message("user", picture, "?"), settings=settings)
            slots = sum(token in self.picture_ids for token in shown)
            self.measured[key] = len(shown) - len(alone), slots
        return self.measured[key]


def _thinking(template: ChatTemplate, tokenizer: Any) -> ThinkingFormat | None:
    """Return the thinking format of a template; None if it neither marks thoughts nor has a switch for them."""
    if not template.marks_thoughts:
        return None
    opened = frozenset(wish for wish in (True, False) if template.opens_thought(wish))
    return ThinkingFormat(template.thinking, opened, mark_ids(tokenizer))


class _Random:
    """The random state of one answer; torch's global generator is shared by all answers, one step at a time."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=self.devices):
            torch.manual_seed(seed)
            self._remember()

    def _remember(self) -> None:
        self.state = torch.get_rng_state()
        self.states = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def around(self) -> Iterator[None]:
        """Install the answer's random state within the block and save it afterwards."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.state)
            for device, state in zip(self.devices, self.states, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._remember()


def _processor_options(options: Options | None) -> ProcessorOptions:
    """Return the picture settings as arguments of the processor; empty to use those of the checkpoint."""
    settings: ProcessorOptions = {}
    if options is not None and options.max_slices is not None:
        settings["max_slice_nums"] = options.max_slices
    if options is not None and options.finer_detail is not None:
        settings["downsample_mode"] = "4x" if options.finer_detail else "16x"
    return settings


def _key(picture: Picture, settings: ProcessorOptions) -> Hashable:
    """Return the key of a picture: everything its tokens depend on."""
    return (picture.digest, *sorted(settings.items()))


def _words(message: Message) -> tuple[str, ...]:
    return tuple(part for part in message.parts if isinstance(part, str))


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the stop tokens of the checkpoint's generation_config.json and its tokenizer."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    found = [*(declared if isinstance(declared, list | tuple) else [declared]), tokenizer.eos_token_id]
    ends = list(dict.fromkeys(int(token) for token in found if token is not None))
    if not ends:
        raise CheckpointError("no_end_token")
    return ends


def _picture_ids(model: Any, processor: Any) -> frozenset[int]:
    """Return the placeholder tokens that are replaced by picture features."""
    named = [getattr(model.config, name, None) for name in ("image_token_id", "image_token_index")]
    found = {token for token in processor.image_token_ids if token is not None}
    return frozenset(found or {token for token in named if token is not None})
