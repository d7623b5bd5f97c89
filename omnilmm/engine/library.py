"""Reading for the models that transformers has itself: MiniCPM-V 4.6 and 4.7, Qwen-VL, LLaVA and whatever follows.

The checkpoint's processor makes the model's inputs with its own chat template, and the model's own `generate` looks at
the pictures. So the repetition penalty counts the prompt as well, and what comes back begins with the prompt: both as
everywhere in transformers.
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
from omnilmm.engine.reading import Request
from omnilmm.engine.stepwise import Ids, generate_arguments, stepwise
from omnilmm.errors import CheckpointError
from omnilmm.prompts.chat_template import ChatTemplate

MEASURED_PICTURES = 4096


class LibraryReader:
    """An image-text-to-text model of transformers with its processor.

    Args:
        model: of `AutoModelForImageTextToText`.
        processor: of `models.library.load_processor`.

    Raises:
        CheckpointError: No chat template, or no token that ends an answer.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.template = ChatTemplate(processor)
        self.stop_ids = _stop_ids(model, self.tokenizer)
        self.silent_ids = frozenset(self.tokenizer.convert_tokens_to_ids(sorted(self.template.control_tokens)))
        self.picture_ids = _picture_ids(model, processor)
        self.lengths: dict[str, int] = {}
        # A fast tokenizer cannot be set up in one thread and used in another at once.
        self.lock = threading.Lock()

    def length(self, conversation: Conversation) -> int:
        """Tokens of its prompt: those of the words, and what each picture adds on its own.

        A processor says how many those are only by doing all its work, so each picture is measured once.
        """
        words = [replace(message, parts=_words(message)) for message in conversation.messages]
        spoken = replace(conversation, messages=tuple(words))
        return self._count(spoken) + sum(self._added_by(picture) for picture in conversation.pictures)

    def views(self, picture: Picture) -> None:
        """Only the model's own processor knows."""

    def answer(self, request: Request) -> Generator[Ids | None]:
        """See `reading.Reader`; nothing of an earlier turn is used."""
        inputs = self.inputs(request.conversation)
        ids = inputs["input_ids"][0].tolist()
        request.picture_tokens = sum(token in self.picture_ids for token in ids)
        request.text_tokens = len(ids) - request.picture_tokens
        begins = 1 if self.model.config.is_encoder_decoder else len(ids)
        arguments = GenerationConfig(**generate_arguments(request.options, self.stop_ids))
        yield None

        def generate(stopping: StoppingCriteriaList) -> Tensor:
            given: Tensor = self.model.generate(**inputs, stopping_criteria=stopping, generation_config=arguments)
            return given

        yield from stepwise(generate, begins, _Random(request.seed, self.model.device).around)

    def inputs(self, conversation: Conversation) -> BatchFeature:
        """What the processor makes of the whole conversation, on the model's device."""
        return self._inputs(conversation).to(self.model.device, dtype=self.model.dtype)

    def forget(self, owner: Hashable) -> None:
        """Nothing is kept."""

    def free(self) -> int:
        """Nothing is kept."""
        return 0

    def _inputs(self, conversation: Conversation) -> BatchFeature:
        with self.lock:
            return BatchFeature(dict(self.template.inputs(conversation)))

    def _count(self, conversation: Conversation) -> int:
        return int(self._inputs(conversation)["input_ids"].shape[1])

    def _added_by(self, picture: Picture) -> int:
        if picture.digest not in self.lengths:
            if len(self.lengths) >= MEASURED_PICTURES:
                self.lengths.clear()
            alone = Conversation().with_message("user", "?")
            shown = Conversation().with_message("user", picture, "?")
            self.lengths[picture.digest] = self._count(shown) - self._count(alone)
        return self.lengths[picture.digest]


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


def _words(message: Message) -> tuple[str, ...]:
    return tuple(part for part in message.parts if isinstance(part, str))


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """What the checkpoint's generation_config.json and its tokenizer name as the end."""
    said = getattr(model.generation_config, "eos_token_id", None)
    found = [*(said if isinstance(said, list | tuple) else [said]), tokenizer.eos_token_id]
    ends = list(dict.fromkeys(int(token) for token in found if token is not None))
    if not ends:
        raise CheckpointError(
            "This checkpoint names no token that ends an answer: neither its generation_config.json nor its tokenizer "
            "has an eos_token."
        )
    return ends


def _picture_ids(model: Any, processor: Any) -> frozenset[int]:
    """Tokens in whose place picture features go."""
    named = [getattr(model.config, name, None) for name in ("image_token_id", "image_token_index")]
    found = {token for token in processor.image_token_ids if token is not None}
    return frozenset(found or {token for token in named if token is not None})
