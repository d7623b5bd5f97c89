"""Responses in OpenAI's format: completions, chunks and errors."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.engine.events import Event, Finished, TextDelta, ThoughtDelta
from omnilmm.errors import ContextLengthError, InputError, ModelNotFoundError, OmniLMMError, OptionsError, SwitchError

REASONS = {"end": "stop", "length": "length"}
# Subclasses before their base classes. All other errors are server errors.
STATUS: tuple[tuple[type[OmniLMMError], int], ...] = (
    (ModelNotFoundError, 404),
    (ContextLengthError, 400),
    (InputError, 400),
    (OptionsError, 400),
)
# OpenAI's error codes; all others are our own.
CONTEXT, CODES = "context_length_exceeded", {"model_not_served": "model_not_found"}


class Reply:
    """Builds the response to one request.

    Args:
        card: card of the model that answers.
        wants_usage: end a stream with a usage chunk.
    """

    def __init__(self, card: ModelCard, wants_usage: bool = False) -> None:
        self.card, self.wants_usage = card, wants_usage
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.sent = self.thought = ""

    def whole(self, finished: Finished) -> dict[str, Any]:
        """Return a `chat.completion` object."""
        message = {"role": "assistant", "content": finished.text}
        if finished.thought:
            message["reasoning_content"] = finished.thought.text
        choice = {"index": 0, "message": message, "finish_reason": REASONS[_reason(finished)], "logprobs": None}
        return self._object("chat.completion", [choice]) | {"usage": usage_of(finished)}

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """Yield the `chat.completion.chunk` objects of an event; beam search sends only the best beam, in one chunk."""
        if isinstance(event, TextDelta):
            yield self._chunk({"content": event.text})
            self.sent += event.text
        elif isinstance(event, ThoughtDelta):
            yield self._chunk({"reasoning_content": event.text})
            self.thought += event.text
        elif isinstance(event, Finished):
            reason = REASONS[_reason(event)]
            if rest := (event.thought.text if event.thought else "")[len(self.thought) :]:
                yield self._chunk({"reasoning_content": rest})
            if rest := event.text[len(self.sent) :]:
                yield self._chunk({"content": rest})
            yield self._chunk({}, reason)
            if self.wants_usage:
                yield self._object("chat.completion.chunk", []) | {"usage": usage_of(event)}

    def first(self) -> dict[str, Any]:
        """Return the first chunk, which contains the role."""
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._object("chat.completion.chunk", [choice]) | ({"usage": None} if self.wants_usage else {})

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.card.name, "choices": choices}


def models(card: ModelCard, created: int) -> dict[str, Any]:
    """Return the list of models, which contains only the one being served."""
    about = {"id": card.name, "object": "model", "created": created, "owned_by": "omnilmm"}
    return {"object": "list", "data": [about | {"max_model_len": card.context}]}


def usage_of(finished: Finished) -> dict[str, Any]:
    """Return the token counts: OpenAI's fields, plus prompt tokens of pictures, those reused, and messages left out."""
    usage = finished.usage
    prompt = usage.text_tokens + usage.picture_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.new_tokens,
        "total_tokens": prompt + usage.new_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.reused},
        "completion_tokens_details": {"reasoning_tokens": finished.thought.tokens if finished.thought else 0},
        "picture_tokens": usage.picture_tokens,
        "reused": usage.reused,
        "dropped_messages": finished.dropped_messages,
    }


def error_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and body for an error; details of unexpected errors are only in the log."""
    if isinstance(error, OmniLMMError):
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 503)
        kind = "server_error" if status == 503 else "invalid_request_error"
        code = CONTEXT if isinstance(error, ContextLengthError) else CODES.get(error.code, error.code)
        return status, error_body(str(error), kind, code)
    return 500, error_body("The answer failed. The server's log has the details.", "server_error", "internal_error")


def error_body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's format."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def sse(data: dict[str, Any] | str) -> bytes:
    """Encode a server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _reason(finished: Finished) -> str:
    if finished.reason not in REASONS:
        raise SwitchError("answer_cut_by_switch")
    return finished.reason
