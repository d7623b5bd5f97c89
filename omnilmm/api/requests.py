"""Convert a client's request to the input of an engine: conversation, options and owner of the caches."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from omnilmm.api.schema import ChatMessage, ChatRequest, ImagePart
from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Part
from omnilmm.engine.options import LIMITS, Options, options_for
from omnilmm.errors import ImageError, InputError, ModelNotFoundError, OptionsError
from omnilmm.images.pixels import open_picture
from omnilmm.images.sources import decoded

Fetch = Callable[[str], bytes]


@dataclass(frozen=True)
class Question:
    """The input of an engine.

    Attributes:
        conversation: conversation with its pictures.
        options: generation options.
        owner: owner of the caches that may be reused.
    """

    conversation: Conversation
    options: Options
    owner: Hashable


def question_of(request: ChatRequest, card: ModelCard, owner: Hashable, fetch: Fetch | None = None) -> Question:
    """Convert a request; slow, as its pictures are decoded.

    Args:
        request: request of a client.
        card: card of the model that answers.
        owner: client that sent the request.
        fetch: downloads a picture by URL; None if URLs are not fetched.

    Raises:
        InputError, ImageError, OptionsError, ModelNotFoundError: The request is invalid; the message says what was
            expected.
    """
    if request.model not in names_of(card):
        raise ModelNotFoundError("model_not_served", model=request.model, served=card.name)
    if unsupported := request.unsupported():
        raise OptionsError("fields_not_supported", fields=unsupported)
    options = _options(request, card)
    return Question(_conversation(request.messages, fetch), options, (owner, request.user))


def names_of(card: ModelCard) -> tuple[str, ...]:
    """Return the names under which a client may request a model."""
    return (card.name, card.source)


def _options(request: ChatRequest, card: ModelCard) -> Options:
    limits = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise OptionsError("two_length_limits")
    stops = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    shared: dict[str, Any] = {
        "repetition_penalty": request.repetition_penalty,
        "max_new_tokens": next(iter(limits), None),
        "stop": stops or None,
        "thinking": request.chat_template_kwargs and request.chat_template_kwargs.enable_thinking,
    }
    if (request.num_beams or 1) > 1:
        return options_for(card, "beam", beams=request.num_beams, length_penalty=request.length_penalty, **shared)
    if request.length_penalty is not None:
        raise OptionsError("length_penalty_without_beams")
    seeds = int(LIMITS["seed"].high) + 1
    return options_for(
        card,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=None if request.seed is None else request.seed % seeds,  # OpenAI's seeds are signed 64-bit integers
        **shared,
    )


def _conversation(messages: list[ChatMessage], fetch: Fetch | None) -> Conversation:
    conversation = Conversation()
    for number, message in enumerate(messages):
        parts = (message.content,) if isinstance(message.content, str) else message.content
        read = [part if isinstance(part, str) else _part(part, fetch) for part in parts]
        if message.role in ("user", "assistant"):
            conversation = conversation.with_message(message.role, *read)
        elif number:
            raise InputError("system_not_first", number=number, role=message.role)
        elif not all(isinstance(part, str) for part in read):
            raise InputError("system_with_picture")
        else:
            conversation = Conversation(system="\n".join(part for part in read if isinstance(part, str)))
    return conversation


def _part(part: object, fetch: Fetch | None) -> Part:
    """Convert a content part; a URL is never opened as a path on this machine."""
    if not isinstance(part, ImagePart):
        return str(getattr(part, "text", ""))
    address = part.image_url.url.strip()
    if address[:5].lower() == "data:":
        return open_picture(decoded(address))
    if fetch is None:
        raise ImageError("address_not_fetched", address=address[:80])
    if not address.lower().startswith(("http://", "https://")):
        raise ImageError("no_address_of_a_picture", address=address[:80])
    return open_picture(fetch(address))
