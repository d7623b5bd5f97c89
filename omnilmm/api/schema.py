"""Request schema of `/v1/chat/completions`: fields of OpenAI's API reference and a few of vLLM's.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_STOPS = 4  # OpenAI's limit
MOST_NAMED = 20  # ignored fields in the header

# Unsupported fields that would change the answer, with their neutral values; other values are refused.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "audio": (),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
# Fields that can safely be ignored, with their neutral values; a response header lists those with other values.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "min_p": (0,),
    "parallel_tool_calls": (True, False),
    "store": (False,),
    "metadata": ({},),
}


class _Sent(BaseModel):
    # Numbers as strings, or 1 for true, are client errors and should be reported.
    model_config = ConfigDict(strict=True)


class TextPart(_Sent):
    """A text part."""

    type: Literal["text"]
    text: str


class ImageURL(_Sent):
    """The URL of a picture: a data URI, or an HTTP(S) URL if the server is allowed to fetch it."""

    url: str = Field(examples=["data:image/png;base64,iVBORw0KGgo="])
    detail: str | None = None


class ImagePart(_Sent):
    """A picture part."""

    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(_Sent):
    """One message; "developer" is OpenAI's newer name for "system"."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]


class StreamOptions(_Sent):
    """Options of a stream; with `include_usage` it ends with a usage chunk."""

    include_usage: bool = False


class TemplateArguments(_Sent):
    """Arguments of the chat template, as in vLLM."""

    enable_thinking: bool | None = None


class ChatRequest(_Sent):
    """The body of `POST /v1/chat/completions`. Other fields are kept in `model_extra`."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    user: str | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    chat_template_kwargs: TemplateArguments | None = None

    def unsupported(self) -> list[str]:
        """Return the names of fields that request unsupported features."""
        return [name for name, value in self._extra() if name in UNSUPPORTED and not _is_in(value, UNSUPPORTED[name])]

    def ignored(self) -> list[str]:
        """Return the names of fields that have no effect here, fit for a header."""
        extra = [(name, value) for name, value in self._extra() if name not in UNSUPPORTED]
        names = [name for name, value in extra if not _is_in(value, NEUTRAL.get(name, ()))]
        return [name if name.isidentifier() and name.isascii() else ascii(name) for name in names[:MOST_NAMED]]

    def _extra(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in (self.model_extra or {}).items() if value is not None]


def _is_in(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Return whether a value is one of the neutral ones; True does not equal 1 here."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)
