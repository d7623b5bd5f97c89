"""The backend for models of transformers: MiniCPM-V 4.6 and 4.7, Qwen-VL, LLaVA and other image-text-to-text models.

The checkpoint's processor builds the model's inputs with its own chat template, and the model's own `generate` encodes
the pictures. So, as usual in transformers, the repetition penalty also applies to tokens of the prompt, and the
returned ids begin with the prompt.

The model's state after the pictures is cached between turns, see `picture_state.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, GenerationConfig, StoppingCriteriaList

from omnilmm.conversation import Conversation, Message, Picture, Video
from omnilmm.engine.backends.base import Request, Step
from omnilmm.engine.backends.stepwise import generate_arguments, stepwise
from omnilmm.engine.caches.picture_state import REUSING_STATE, PictureState
from omnilmm.engine.caches.prefix import PREFIX_BYTES, PrefixCache
from omnilmm.engine.events import Progress
from omnilmm.engine.options import BeamSearch, Options
from omnilmm.engine.thoughts import ThinkingFormat, mark_ids
from omnilmm.errors import CheckpointError, InputError
from omnilmm.images.video_sampling import groups_of
from omnilmm.models.library_videos import frames_of, takes_videos
from omnilmm.prompts.chat_template import ChatTemplate
from omnilmm.versions import VideoSampling

MEASURED_PICTURES = 4096


@dataclass(frozen=True)
class ProcessorOptions:
    """Settings for the pictures and videos of one prompt; None to use those of the checkpoint.

    Attributes:
        max_slices: maximum number of slices per picture; frames of videos are never sliced.
        detail: `downsample_mode`, "4x" for finer detail or "16x".
        has_videos: there are videos among them, so that nothing is numbered, as their makers do it.
    """

    max_slices: int | None = None
    detail: str | None = None
    has_videos: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the settings as arguments of a processor."""
        given: dict[str, Any] = {"images_kwargs": {"max_slice_nums": self.max_slices}} if self.max_slices else {}
        if self.detail:
            given["downsample_mode"] = self.detail
        if self.has_videos:
            frames = {"do_sample_frames": False, "do_resize": False}  # sampled and resized already
            given |= {"use_image_id": False, "videos_kwargs": frames}
        return given


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
        # How frames of videos are sampled, with finer detail or without; None for a model that takes no videos.
        self.sampling: Callable[[bool], VideoSampling | None] = lambda _: None
        self.prefixes = PrefixCache(prefix_bytes if model.config.model_type in REUSING_STATE else 0)
        self.measured: dict[Hashable, tuple[int, int]] = {}
        # A fast tokenizer must not be reconfigured in one thread while another uses it.
        self.lock = threading.Lock()

    def length(self, conversation: Conversation, options: Options | None = None) -> int:
        """Return the number of prompt tokens: those of the text plus those each picture adds on its own.

        The latter are known only from running the processor on the picture, so each picture is measured once.
        """
        words = [replace(message, parts=_words(message)) for message in conversation.messages]
        without_pictures = replace(conversation, messages=tuple(words))
        settings = _processor_options(options, conversation)
        shown = sum(self._measure(part, settings)[0] for part in conversation.shown)
        return len(self._ids(without_pictures, self._thinks(options))) + shown

    def count(self, text: str) -> int:
        """Return the number of tokens of a text on its own."""
        with self.lock:
            return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def slices(self, picture: Picture, options: Options | None = None) -> None:
        """Return None: the slices are known to the model's own processor only."""

    def generate(self, request: Request) -> Generator[Step]:
        """See `base.Backend`."""
        settings = _processor_options(request.options, request.conversation)
        inputs = dict(self.inputs(request.conversation, request.options))
        if settings.detail:  # the model needs it, too
            inputs["downsample_mode"] = settings.detail
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
                frames = sum(len(video.frames) for video in set(request.conversation.videos))
                pictures = len(set(request.conversation.pictures))
                yield Progress("frames", total=frames) if frames else Progress("encoding", total=pictures)
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
        return self.processed(conversation, options).to(self.model.device, dtype=self.model.dtype)

    def processed(self, conversation: Conversation, options: Options | None = None) -> BatchFeature:
        """Return the processor's inputs for the whole conversation, as it returns them."""
        return self._inputs(conversation, self._thinks(options), _processor_options(options, conversation))

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
        slots = [(part, settings) for part in conversation.shown for _ in range(self._measure(part, settings)[1])]
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

    def _thinks(self, options: Options | None) -> bool | None:
        """Return whether to think; None for a template without a switch."""
        if self.thinking is None or self.thinking.default is None:
            return None
        return self.thinking.is_enabled(options.thinking if options else None)

    def _inputs(
        self, conversation: Conversation, thinking: bool | None = None, settings: ProcessorOptions | None = None
    ) -> BatchFeature:
        with self.lock:
            arguments = settings.arguments() if settings else {}
            frames = partial(self._frames, detail=settings.detail if settings else None)
            return BatchFeature(dict(self.template.inputs(conversation, thinking, arguments, frames)))

    def _frames(self, video: Video, detail: str | None) -> Tensor:
        """Return the frames that the model takes of a video, [T, 3, H, W].

        Raises:
            InputError: The model takes no videos.
        """
        sampling = self.sampling(detail == "4x")
        if sampling is None or not takes_videos(self.processor) or not self.template.places_videos:
            raise InputError("model_sees_no_videos")
        places = [place for group in groups_of(video, sampling) for place in group]
        return frames_of(video, places, self.processor.video_processor, detail)

    def _ids(
        self, conversation: Conversation, thinking: bool | None = None, settings: ProcessorOptions | None = None
    ) -> list[int]:
        ids: list[int] = self._inputs(conversation, thinking, settings)["input_ids"][0].tolist()
        return ids

    def _measure(self, part: Picture | Video, settings: ProcessorOptions) -> tuple[int, int]:
        """Return how many tokens a picture or a video adds on its own, and how many of them are its placeholders."""
        key = part, settings
        if key not in self.measured:
            if len(self.measured) >= MEASURED_PICTURES:
                self.measured.clear()
            alone = self._ids(Conversation().with_message("user", "?"))
            shown = self._ids(Conversation().with_message("user", part, "?"), settings=settings)
            slots = sum(token in self.picture_ids for token in shown)
            self.measured[key] = len(shown) - len(alone), slots
        return self.measured[key]


def _thinking(template: ChatTemplate, tokenizer: Any) -> ThinkingFormat | None:
    """Return the thinking format of a template; None if it neither marks thoughts nor has a switch for them."""
    if not template.marks_thoughts:
        return None
    opened = frozenset(switch for switch in (True, False) if template.opens_thought(switch))
    return ThinkingFormat(template.thinking, opened, mark_ids(tokenizer))


class _Random:
    """The random state of one answer; torch's global generator is shared by all answers, one step at a time."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=self.devices):
            torch.manual_seed(seed)
            self._save()

    def _save(self) -> None:
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
            self._save()


def _processor_options(options: Options | None, conversation: Conversation) -> ProcessorOptions:
    has_videos = bool(conversation.videos)
    if options is None:
        return ProcessorOptions(has_videos=has_videos)
    detail = None if options.finer_detail is None else "4x" if options.finer_detail else "16x"
    return ProcessorOptions(options.max_slices, detail, has_videos)


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
    """Return the placeholder tokens that are replaced by features of pictures or videos."""
    named = [getattr(model.config, name, None) for name in ("image_token_id", "image_token_index")]
    found = {token for token in (*processor.image_token_ids, *processor.video_token_ids) if token is not None}
    return frozenset(found or {token for token in named if token is not None})
