"""Reading for the models that transformers has itself: MiniCPM-V 4.6 and 4.7, Qwen-VL, LLaVA and whatever follows.

The checkpoint's processor makes the model's inputs with its own chat template, and the model's own `generate` looks at
the pictures. So the repetition penalty counts the prompt as well, and what comes back begins with the prompt: both as
everywhere in transformers.

What they remember of the pictures is kept between turns, see `picture_state.py`.
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

Look = dict[str, Any]  # arguments of a processor


class TransformersBackend:
    """An image-text-to-text model of transformers with its processor.

    Args:
        model: of `AutoModelForImageTextToText`.
        processor: of `models.library.load_processor`.
        prefix_bytes: of pictures that are kept as they were read.

    Raises:
        CheckpointError: No chat template, or no token that ends an answer.
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
        # A fast tokenizer cannot be set up in one thread and used in another at once.
        self.lock = threading.Lock()

    def length(self, conversation: Conversation, options: Options | None = None) -> int:
        """Tokens of its prompt: those of the words, and what each picture adds on its own.

        A processor says how many those are only by doing all its work, so each picture is measured once.
        """
        words = [replace(message, parts=_words(message)) for message in conversation.messages]
        spoken = replace(conversation, messages=tuple(words))
        shown = sum(self._measure(picture, _look(options))[0] for picture in conversation.pictures)
        return len(self._ids(spoken, self._wish(options))) + shown

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        with self.lock:
            return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def slices(self, picture: Picture, options: Options | None = None) -> None:
        """Only the model's own processor knows."""

    def generate(self, request: Request) -> Generator[Step]:
        """See `base.Backend`."""
        look = _look(request.options)
        inputs = dict(self.inputs(request.conversation, request.options))
        if "downsample_mode" in look:  # the model is told, too
            inputs["downsample_mode"] = look["downsample_mode"]
        ids = inputs["input_ids"][0].tolist()
        request.picture_tokens = sum(token in self.picture_ids for token in ids)
        request.text_tokens = len(ids) - request.picture_tokens
        begins = 1 if self.model.config.is_encoder_decoder else len(ids)
        arguments = generate_arguments(request.options, self.stop_ids)
        rows = request.options.beams if isinstance(request.options, BeamSearch) else 1
        yield None
        shown = self._shown(ids, request.conversation, look)
        handle = self.prefixes.acquire(request.owner, shown)
        memory = handle.prefix if isinstance(handle.prefix, PictureState) else None
        if memory is not None and len(memory.keys) != len(shown):
            memory = None
        request.reused = 0 if memory is None else len(shown)
        try:
            if memory is None:  # the pictures are looked at within `generate`, which says nothing of it
                yield Progress("reading", total=len(set(request.conversation.pictures)))
            if memory is None and shown and request.owner is not None:
                reading = PictureState(self.model, shown)
                reading.read(inputs, arguments)
                memory = reading
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
        """What the processor makes of the whole conversation, on the model's device."""
        return self._inputs(conversation, self._wish(options), _look(options)).to(
            self.model.device, dtype=self.model.dtype
        )

    def forget(self, owner: Hashable) -> None:
        """Keep nothing of an owner's conversation."""
        self.prefixes.forget(owner)

    def free(self) -> int:
        """Give up all that is kept."""
        return self.prefixes.clear()

    def _shown(self, ids: list[int], conversation: Conversation, look: Look) -> list[Hashable]:
        """What a prompt to the end of its last picture is compared by: ids, and pictures in the place of theirs.

        Nothing if none of it can be kept.
        """
        slots = [
            _key(picture, look) for picture in conversation.pictures for _ in range(self._measure(picture, look)[1])
        ]
        places = [place for place, token in enumerate(ids) if token in self.picture_ids]
        if not places or not self.prefixes.limit_bytes or len(slots) != len(places):
            return []
        keys: list[Hashable] = list(ids)
        for place, digest in zip(places, slots, strict=True):
            keys[place] = digest
        end = places[-1] + 1
        while end < len(ids) - 1 and ids[end] in self.suppressed_ids:
            end += 1  # marks that close the picture have their place in it, too
        return keys[:end]

    def _wish(self, options: Options | None) -> bool | None:
        """Whether to think; None for a template without a switch."""
        if self.thinking is None or self.thinking.default is None:
            return None
        return self.thinking.wish(options.thinking if options else None)

    def _inputs(
        self, conversation: Conversation, thinking: bool | None = None, look: Look | None = None
    ) -> BatchFeature:
        with self.lock:
            return BatchFeature(dict(self.template.inputs(conversation, thinking, look)))

    def _ids(self, conversation: Conversation, thinking: bool | None = None, look: Look | None = None) -> list[int]:
        ids: list[int] = self._inputs(conversation, thinking, look)["input_ids"][0].tolist()
        return ids

    def _measure(self, picture: Picture, look: Look) -> tuple[int, int]:
        """How many tokens a picture adds on its own, and how many of them its features take the place of."""
        key = _key(picture, look)
        if key not in self.measured:
            if len(self.measured) >= MEASURED_PICTURES:
                self.measured.clear()
            alone = self._ids(Conversation().with_message("user", "?"))
            shown = self._ids(Conversation().with_message("user", picture, "?"), look=look)
            slots = sum(token in self.picture_ids for token in shown)
            self.measured[key] = len(shown) - len(alone), slots
        return self.measured[key]


def _thinking(template: ChatTemplate, tokenizer: Any) -> ThinkingFormat | None:
    """None for a template that neither marks thoughts nor has a switch for them."""
    if not template.marks_thoughts:
        return None
    opened = frozenset(wish for wish in (True, False) if template.opens_thought(wish))
    return ThinkingFormat(template.thinking, opened, mark_ids(tokenizer))


class _Random:
    """The random numbers of one answer in torch's only generator, which all answers share in turn."""

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
        """Enter while the answer runs."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.state)
            for device, state in zip(self.devices, self.states, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._remember()


def _look(options: Options | None) -> Look:
    """How a picture is cut, as arguments of the processor; nothing where the checkpoint's own settings are meant."""
    look: Look = {}
    if options is not None and options.max_slices is not None:
        look["max_slice_nums"] = options.max_slices
    if options is not None and options.finer_detail is not None:
        look["downsample_mode"] = "4x" if options.finer_detail else "16x"
    return look


def _key(picture: Picture, look: Look) -> Hashable:
    """What the tokens of a picture depend on."""
    return (picture.digest, *sorted(look.items()))


def _words(message: Message) -> tuple[str, ...]:
    return tuple(part for part in message.parts if isinstance(part, str))


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """What the checkpoint's generation_config.json and its tokenizer name as the end."""
    said = getattr(model.generation_config, "eos_token_id", None)
    found = [*(said if isinstance(said, list | tuple) else [said]), tokenizer.eos_token_id]
    ends = list(dict.fromkeys(int(token) for token in found if token is not None))
    if not ends:
        raise CheckpointError("no_end_token")
    return ends


def _picture_ids(model: Any, processor: Any) -> frozenset[int]:
    """Tokens in whose place picture features go."""
    named = [getattr(model.config, name, None) for name in ("image_token_id", "image_token_index")]
    found = {token for token in processor.image_token_ids if token is not None}
    return frozenset(found or {token for token in named if token is not None})
