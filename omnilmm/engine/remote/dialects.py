"""What differs between OpenAI-compatible servers, as data.

`docs/servers.md` says which entries were tried and which only read in documents.

An option that a dialect does not list has no effect there, and the pages do not show it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from omnilmm.engine.options import BeamSearch, Options

Fields = Mapping[str, str]  # our option -> field of the request
DRAWING = ("top_p", "top_k", "seed")  # options without meaning for greedy decoding
_PLAIN: Fields = MappingProxyType(
    {"temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_new_tokens": "max_tokens", "stop": "stop"}
)
# Fields under a newer name, used when a server refuses the first.
SYNONYMS: Mapping[str, str] = MappingProxyType({"max_tokens": "max_completion_tokens"})
_REPETITION = {"top_k": "top_k", "repetition_penalty": "repetition_penalty"}


@dataclass(frozen=True)
class Dialect:
    """The fields that a kind of server understands.

    Attributes:
        name: key in `DIALECTS`.
        title: name of the server program.
        sampling: fields of the sampling options.
        beam: fields of the beam search options; None where there is no beam search.
        always: fields of every request.
        with_sampling, with_beam: further fields where tokens are drawn, and of beam search.
        thinking: whether `chat_template_kwargs.enable_thinking` switches thinking.
        is_ours: whether it is our own API: pictures are sliced as published, and the caches of different users are kept
            apart by the field `user`.
        answers_any_model: whether it answers whatever model a request names; its chunks name the one that does
            (llama.cpp since December 2025; older ones repeat the name of the request).
        owners: `owned_by` of its models.
        server: beginning of its `Server` header.
    """

    name: str
    title: str
    sampling: Fields = field(default_factory=lambda: _PLAIN)
    beam: Fields | None = None
    always: Mapping[str, Any] = field(default_factory=dict)
    with_sampling: Mapping[str, Any] = field(default_factory=dict)
    with_beam: Mapping[str, Any] = field(default_factory=dict)
    thinking: bool = False
    is_ours: bool = False
    answers_any_model: bool = False
    owners: tuple[str, ...] = ()
    server: str = ""

    def fields(self, options: Options) -> dict[str, Any]:
        """Return the fields of a request for these options."""
        if isinstance(options, BeamSearch):
            names, more = self.beam or {}, self.with_beam
        else:
            names, more = self.sampling, {} if options.is_greedy else self.with_sampling
        given = {name: value for option, name in names.items() if (value := _value(options, option)) is not None}
        if options.thinking is not None and self.thinking:
            given["chat_template_kwargs"] = {"enable_thinking": options.thinking}
        return {**self.always, **more, **given}

    def option(self, name: str) -> str:
        """Return the option that a field stands for; the field itself if it is none of ours."""
        name = next((old for old, new in SYNONYMS.items() if new == name), name)
        known = {value: key for key, value in {**(self.beam or {}), **self.sampling}.items()}
        return "thinking" if name == "chat_template_kwargs" else known.get(name, name)


def _value(options: Options, option: str) -> Any:
    """Return an option as sent; None to leave it out: greedy decoding draws nothing, so its temperature says all."""
    if option == "stop":
        return list(options.stop) or None
    if not isinstance(options, BeamSearch) and options.is_greedy:
        if option in DRAWING:
            return None
        if option == "temperature":
            return 0
    return getattr(options, option)


PLAIN = Dialect("plain", "OpenAI-compatible server")
LLAMA_CPP = Dialect(
    "llama.cpp",
    "llama.cpp",
    sampling={**_PLAIN, "top_k": "top_k", "repetition_penalty": "repeat_penalty"},
    always={"timings_per_token": True, "return_progress": True},
    with_sampling={"min_p": 0},  # 0.05 unless it is given
    thinking=True,
    answers_any_model=True,
    owners=("llamacpp",),
    server="llama.cpp",
)
_VLLM_ALWAYS = {"skip_special_tokens": False}  # else the marks of boxes and thoughts may be missing
VLLM = Dialect(
    "vllm",
    "vLLM",
    sampling={**_PLAIN, **_REPETITION},
    beam={"beams": "n", "length_penalty": "length_penalty", "max_new_tokens": "max_tokens", "stop": "stop"},
    always=_VLLM_ALWAYS,
    with_beam={"use_beam_search": True},
    thinking=True,
    owners=("vllm",),
)
SGLANG = Dialect(
    "sglang",
    "SGLang",
    sampling={**_PLAIN, **_REPETITION},
    always=_VLLM_ALWAYS,
    thinking=True,
    owners=("sglang",),
)
OLLAMA = Dialect("ollama", "Ollama", owners=("library",))
LM_STUDIO = Dialect(
    "lmstudio",
    "LM Studio",
    sampling={**_PLAIN, "top_k": "top_k", "repetition_penalty": "repeat_penalty"},
    owners=("organization_owner",),
)
# A temperature alone does not switch sampling on there; one of 0 switches it off again.
TRANSFORMERS = Dialect(
    "transformers", "transformers serve", with_sampling={"generation_config": json.dumps({"do_sample": True})}
)
OMNILMM = Dialect(
    "omnilmm",
    "OmniLMM Chat",
    sampling={**_PLAIN, **_REPETITION},
    beam={
        "beams": "num_beams",
        "length_penalty": "length_penalty",
        "repetition_penalty": "repetition_penalty",
        "max_new_tokens": "max_tokens",
        "stop": "stop",
    },
    thinking=True,
    is_ours=True,
    owners=("omnilmm",),
)
DIALECTS = {one.name: one for one in (LLAMA_CPP, VLLM, SGLANG, OLLAMA, LM_STUDIO, TRANSFORMERS, OMNILMM, PLAIN)}


def recognise(owners: Iterable[str], server: str = "") -> Dialect:
    """Return the dialect of a server by the owner of its models and by its `Server` header; `PLAIN` if unknown."""
    owners = set(owners)
    for dialect in DIALECTS.values():
        if owners & set(dialect.owners) or (dialect.server and server.startswith(dialect.server)):
            return dialect
    return PLAIN
