"""What a client gets: OpenAI's objects, whole or in chunks, and its form of an error."""

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
# The most particular first. What is none of these is the server's own fault.
STATUS: tuple[tuple[type[OmniLMMError], int], ...] = (
    (ModelNotFoundError, 404),
    (ContextLengthError, 400),
    (InputError, 400),
    (OptionsError, 400),
)
# As OpenAI has them; the other codes are ours.
CONTEXT, CODES = "context_length_exceeded", {"model_not_served": "model_not_found"}


class Reply:
    """The answer to one request.

    Args:
        card: of the model that answers.
        wants_usage: whether a stream ends with a chunk of usage.
    """

    def __init__(self, card: ModelCard, wants_usage: bool = False) -> None:
        self.card, self.wants_usage = card, wants_usage
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.sent = self.thought = ""

    def whole(self, finished: Finished) -> dict[str, Any]:
        """A `chat.completion`."""
        message = {"role": "assistant", "content": finished.text}
        if finished.thought:
            message["reasoning_content"] = finished.thought.text
        choice = {"index": 0, "message": message, "finish_reason": REASONS[_reason(finished)], "logprobs": None}
        return self._object("chat.completion", [choice]) | {"usage": usage_of(finished)}

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """The `chat.completion.chunk`s of an event. Of a beam search the winner is sent, in one piece."""
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
        """The chunk that says whose words follow."""
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._object("chat.completion.chunk", [choice]) | ({"usage": None} if self.wants_usage else {})

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.card.name, "choices": choices}


def models(card: ModelCard, created: int) -> dict[str, Any]:
    """The list of models: the one that answers."""
    about = {"id": card.name, "object": "model", "created": created, "owned_by": "omnilmm"}
    return {"object": "list", "data": [about | {"max_model_len": card.context}]}


def usage_of(finished: Finished) -> dict[str, Any]:
    """Tokens; beside OpenAI's fields how many of the prompt are of pictures, and were known from earlier turns."""
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
    }


def error_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for an error; what is not meant for the reader is only said to be in the log."""
    if isinstance(error, OmniLMMError):
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 503)
        kind = "server_error" if status == 503 else "invalid_request_error"
        code = CONTEXT if isinstance(error, ContextLengthError) else CODES.get(error.code, error.code)
        return status, error_body(str(error), kind, code)
    return 500, error_body("The answer failed. The server's log has the details.", "server_error", "internal_error")


def error_body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's form of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def sse(data: dict[str, Any] | str) -> bytes:
    """A server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _reason(finished: Finished) -> str:
    if finished.reason not in REASONS:
        raise SwitchError("answer_cut_by_switch")
    return finished.reason
