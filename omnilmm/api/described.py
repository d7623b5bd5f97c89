"""What the API answers, for its OpenAPI document; `replies` writes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Error(BaseModel):
    """What went wrong, in one line."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """OpenAI's form of an error."""

    error: Error


class Model(BaseModel):
    """A model that is being served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(BaseModel):
    """The models."""

    object: Literal["list"]
    data: list[Model]


class Message(BaseModel):
    """The answer."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str | None = None


class Choice(BaseModel):
    """The only choice there is."""

    index: int
    message: Message
    finish_reason: Literal["stop", "length"]
    logprobs: None


class PromptDetails(BaseModel):
    """Of the prompt's tokens, those reused from earlier turns."""

    cached_tokens: int


class CompletionDetails(BaseModel):
    """Of the answer's tokens, those of its thought."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Token counts; `picture_tokens` and `reused` are part of `prompt_tokens`.

    `dropped_messages` is the number of oldest messages that did not fit into the model's context.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    picture_tokens: int
    reused: int
    dropped_messages: int


class Completion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Health(BaseModel):
    """Whether the model is loaded."""

    status: Literal["ok", "loading"]


Responses = dict[int | str, dict[str, Any]]
_WRONG_KEY: Responses = {401: {"model": ErrorBody, "description": "The key is missing or wrong."}}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


def responses(answer: type[BaseModel], *, has_key: bool) -> Responses:
    """Return the responses of a route that is only read.

    Args:
        answer: body of its answer.
        has_key: whether it needs the key.
    """
    return {200: {"model": answer}, **(_WRONG_KEY if has_key else {})}


def of_completions(*, has_key: bool) -> Responses:
    """Return the responses of `/v1/chat/completions`."""
    descriptions: dict[int | str, str] = {
        400: "The request is invalid or asks for what this server lacks.",
        404: "Another model is being served.",
        413: "The request is too large.",
        429: "Too many questions are being answered or wait.",
        500: "The answer failed.",
        503: "The model cannot answer now.",
    }
    # With "4XX", FastAPI does not add its own 422, which is never sent.
    descriptions["4XX"] = "Any other refusal."
    errors: Responses = {status: {"model": ErrorBody, "description": text} for status, text in descriptions.items()}
    return {**responses(Completion, has_key=has_key), 200: {"model": Completion, "content": _STREAM}, **errors}
