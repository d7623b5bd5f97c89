"""What a client may send to `/v1/chat/completions`, under the names of OpenAI's reference and a few of vLLM's.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_STOPS = 4  # as OpenAI has it

# What would change the answer, with the values that ask for nothing; refused by name otherwise.
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
# What may be left out without harm, with the values that ask for nothing; ignored otherwise, which a header says.
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
    # Numbers as text, or 1 for true, are mistakes of the client, which should hear of them.
    model_config = ConfigDict(strict=True)


class TextPart(_Sent):
    """Words."""

    type: Literal["text"]
    text: str


class ImageURL(_Sent):
    """Where a picture is: a data URI, or an address where the server was told to fetch such."""

    url: str = Field(examples=["data:image/png;base64,iVBORw0KGgo="])
    detail: str | None = None


class ImagePart(_Sent):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(_Sent):
    """One message; "developer" is what OpenAI calls "system" today."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]


class StreamOptions(_Sent):
    """How a stream ends."""

    include_usage: bool = False


class TemplateArguments(_Sent):
    """What vLLM hands to the chat template."""

    enable_thinking: bool | None = None


class ChatRequest(_Sent):
    """The body of `POST /v1/chat/completions`. Fields that are not here are in `model_extra`."""

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
        """Names of fields that ask for what there is not."""
        return [name for name, value in self._extra() if name in UNSUPPORTED and not _is_in(value, UNSUPPORTED[name])]

    def ignored(self) -> list[str]:
        """Names of fields that have no effect here."""
        extra = [(name, value) for name, value in self._extra() if name not in UNSUPPORTED]
        return [name for name, value in extra if not _is_in(value, NEUTRAL.get(name, ()))]

    def _extra(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in (self.model_extra or {}).items() if value is not None]


def _is_in(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Whether it is one of these; True is not 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)
