"""The models that a server lists, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import httpx

from omnilmm.catalog import ModelCard, SamplingDefaults, Words, cards
from omnilmm.engine.options import LIMITS, TYPES, Mode
from omnilmm.engine.remote.client import LOOK_S, Client, Endpoint, NotJSONError, RefusedError
from omnilmm.engine.remote.dialects import LLAMA_CPP, PLAIN, TRANSFORMERS, VLLM, Dialect, Fields, recognise
from omnilmm.engine.remote.failures import error_of

UNKNOWN_CONTEXT = 32_768  # tokens, to build controls with; the server says when a conversation is too long
LENGTH = 1024
NOTE = Words(
    en="Runs on a server. What the model can do, its licence and where conversations go is up to whoever runs it.",
    zh="运行在服务器上。模型的能力、许可证以及对话的去向取决于该服务器的运营者。",
)
OF_SERVER = SamplingDefaults(temperature=0.7, top_p=0.95, top_k=50, repetition_penalty=1.0)
# A path, and the keys, one within the other, that its JSON has with one kind of server.
PROBED = (
    ("/version", ("version",), VLLM),
    ("/props", ("default_generation_settings",), LLAMA_CPP),
    ("/openapi.json", ("paths", "/load_model"), TRANSFORMERS),
)


@dataclass(frozen=True)
class RemoteModel:
    """A model that a server lists.

    Attributes:
        id: its id there.
        endpoint: the server.
        dialect: the fields that the server understands.
        context: its context length in tokens; None if the server does not say.
        parameters: its number of parameters; None if the server does not say.
        pictures: whether it takes pictures; None if the server does not say.
    """

    id: str
    endpoint: Endpoint
    dialect: Dialect
    context: int | None = None
    parameters: int | None = None
    pictures: bool | None = None

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return card_of(self.id, self.dialect, self.context, self.parameters, self.pictures)


def list_models(endpoint: Endpoint) -> tuple[RemoteModel, ...]:
    """Ask a server for its models.

    Raises:
        ServerError: It cannot be reached, wants a key, or is no such server.
    """
    client = Client(endpoint)
    try:
        listed, headers = _listed(client)
    except (RefusedError, NotJSONError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise error_of(error, endpoint) from error
    owners = [owner for one in listed if isinstance(owner := one.get("owned_by"), str)]
    dialect = recognise(owners, headers.get("server", ""))
    if dialect is PLAIN:
        dialect = _probed(client)
    return tuple(_model(one, endpoint, dialect) for one in listed)


def model_ids(client: Client, timeout_s: float = LOOK_S) -> list[str]:
    """Return the ids of the models of a server.

    Raises:
        RefusedError, NotJSONError, httpx.HTTPError: The request failed.
    """
    return [one["id"] for one in _listed(client, timeout_s)[0]]


def card_of(
    model: str,
    dialect: Dialect = PLAIN,
    context: int | None = None,
    parameters: int | None = None,
    pictures: bool | None = None,
) -> ModelCard:
    """Return the card of a model on a server: from the catalog if it is there, else from what the server says.

    Args:
        model: its id there.
        dialect: the fields that the server understands.
        context: its context length in tokens; None if that is not known.
        parameters: its number of parameters; None if that is not known.
        pictures: whether it takes pictures; None if that is not known, and then it is tried.
    """
    known = next(
        (card for card in cards().values() if model.lower() in {card.name, card.source.lower(), *card.aliases}), None
    )
    length = min(known.max_new_tokens if known else LENGTH, (context or UNKNOWN_CONTEXT) // 2)
    there: dict[str, Any] = {
        "name": model,
        "context": context or (known.context if known else UNKNOWN_CONTEXT),
        "max_new_tokens": max(length, 1),
        "video": False,
        "pictures": pictures is not False,
        "max_slices": None,
        "finer_detail": False,
        "thinking": known.thinking if known and dialect.thinking else None,
        "are_slices_assumed": not dialect.is_ours,
        "is_context_known": bool(context or known),
        "beam_search": dialect.beam is not None,
        "without_effect": without_effect(dialect),
    }
    if known:
        return known.model_copy(update=there)
    return ModelCard(
        title=model,
        source=model,
        family="remote",
        parameters=parameters or None,
        stored="bf16",
        download_gib=0.0,
        memory_gib={},
        languages=("en", "zh"),
        system_prompt=True,
        several_pictures=True,
        boxes=False,
        licence="",
        note=NOTE,
        sampling=OF_SERVER,
        **there,
    )


def without_effect(dialect: Dialect) -> tuple[str, ...]:
    """Return the options that have no effect with this dialect, each as "mode.option"."""
    known: dict[Mode, Fields] = {"sampling": dialect.sampling, "greedy": dialect.sampling, "beam": dialect.beam or {}}
    options = [(mode, one.name) for mode, kind in TYPES.items() for one in fields(kind) if one.name in LIMITS]
    return tuple(f"{mode}.{name}" for mode, name in options if name not in known[mode])


def _listed(client: Client, timeout_s: float = LOOK_S) -> tuple[list[dict[str, Any]], Any]:
    body, headers = client.get(f"{client.endpoint.url}/models", timeout_s)
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise NotJSONError
    return [one for one in data if isinstance(one, dict) and isinstance(one.get("id"), str) and one["id"]], headers


def _probed(client: Client) -> Dialect:
    """Recognise a server by routes of its own; one that renames its models may still have them."""
    for path, (*outer, name), dialect in PROBED:
        try:
            body, _ = client.get(client.endpoint.root + path)
        except (RefusedError, NotJSONError, httpx.HTTPError, httpx.InvalidURL):
            continue
        if name in reduce(lambda found, key: _dict(found.get(key)), outer, _dict(body)):
            return dialect
    return PLAIN


def _model(one: dict[str, Any], endpoint: Endpoint, dialect: Dialect) -> RemoteModel:
    meta = _dict(one.get("meta"))
    context = _count(one.get("max_model_len")) or _count(meta.get("n_ctx")) or _count(one.get("context_length"))
    return RemoteModel(one["id"], endpoint, dialect, context, _count(meta.get("n_params")), _pictures(one))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _pictures(one: dict[str, Any]) -> bool | None:
    """Return whether a model takes pictures, as llama.cpp, LiteLLM or OpenRouter write it; None if nobody says."""
    architecture = _dict(one.get("architecture"))
    for modalities in (architecture.get("input_modalities"), one.get("input_modalities"), one.get("modalities")):
        if isinstance(modalities, list):
            return bool({"image", "vision"} & set(map(str, modalities)))
        if isinstance(modalities, dict) and isinstance(modalities.get("vision"), bool):
            return bool(modalities["vision"])
    return None
