"""The models of all servers that the operator named, and a provider that switches between them.

A server is asked for its models whenever the choice is shown anew, so one that is started later appears in it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from omnilmm.catalog import ModelCard
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Report
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.remote.client import Endpoint
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.engine.remote.models import RemoteModel, list_models
from omnilmm.engine.remote.slicing import published_slices
from omnilmm.errors import ModelNotFoundError, OmniLMMError, OptionsError, ServerError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A model on one of the servers; implements `change.Loadable`.

    Attributes:
        name: its id there; followed by the host if several servers have that id.
        model: what the server says about it.
    """

    name: str
    model: RemoteModel

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.model.card.model_copy(update={"name": self.name})

    def load(self) -> RemoteEngine:
        """Create the engine; nothing is loaded on this machine."""
        there = self.model
        endpoint, card = there.endpoint, self.card
        slices = published_slices(card)
        return RemoteEngine(endpoint.url, there.id, endpoint.key, dialect=there.dialect, card=card, slices=slices)


class Servers:
    """The servers that the operator named.

    Args:
        urls: their base URLs.
        keys: their keys in the same order; a single one is for all of them.

    Raises:
        OptionsError: A URL or a key cannot be used, or the numbers of them do not match.
    """

    def __init__(self, urls: Sequence[str], keys: Sequence[str] = ()) -> None:
        self.endpoints = tuple(dict.fromkeys(_endpoints(urls, keys)))
        self._lock = threading.Lock()
        self._found: Mapping[str, ServedModel] = {}

    @property
    def names(self) -> list[str]:
        """The names of the models found last."""
        return [*self._found]

    def refresh(self) -> Mapping[str, ServedModel]:
        """Ask all servers for their models, and return them by name; a server that fails is left out and logged.

        Raises:
            ServerError: All of them fail.
        """
        with self._lock, ThreadPoolExecutor(len(self.endpoints)) as asking:
            answers = [*asking.map(_asked, self.endpoints)]
            failures = [answer for answer in answers if isinstance(answer, OmniLMMError)]
            if len(failures) == len(answers):
                raise failures[0]
            for failure in failures:
                logger.warning("%s", failure)
            models = [model for answer in answers if not isinstance(answer, OmniLMMError) for model in answer]
            self._found = {served.name: served for served in _named(models)}
            return self._found

    def choose(self, model: str | None) -> ServedModel:
        """Return a model by name or id, after asking the servers; None takes the only one there is.

        Raises:
            ModelNotFoundError: There is no such model, or several to choose from; the message lists them.
            ServerError: The servers fail, or have no model.
        """
        found = self.refresh()
        urls, names = [endpoint.shown for endpoint in self.endpoints], [*found]
        if not found:
            raise ServerError("server_has_no_models", url=urls)
        if model is None and len(found) == 1:
            return found[names[0]]
        if model is None:
            raise ModelNotFoundError("several_models_there", url=urls, models=names)
        served = found.get(model) or next((one for one in found.values() if one.model.id == model), None)
        if served is None:
            raise ModelNotFoundError("no_such_model_there", url=urls, model=model, models=names)
        return served

    def card(self, name: str) -> ModelCard:
        """Return the card of a model found earlier.

        Raises:
            ModelNotFoundError: There was none of this name.
        """
        if name not in self._found:
            urls = [endpoint.shown for endpoint in self.endpoints]
            raise ModelNotFoundError("no_such_model_there", url=urls, model=name, models=[*self._found])
        return self._found[name].card


class ServerProvider(ModelProvider):
    """A provider of the models on servers.

    Args:
        servers: the servers.
        model: name or id of the first model; None takes the only one.

    Raises:
        ModelNotFoundError, ServerError: The first model is not there.
    """

    def __init__(self, servers: Servers, model: str | None) -> None:
        first = servers.choose(model)
        self.servers = servers
        super().__init__(self._choose, servers.names, find=servers.card)
        self.begin(ModelRequest(first.name))

    def _choose(self, request: ModelRequest, freed_bytes: int, report: Report) -> ServedModel:
        """Implement `change.Prepare`: check that the model is still there."""
        return self.servers.choose(request.model)

    def listed(self, _: int = 0) -> list[ListedModel]:
        """Return the models of all servers; none where no server answers."""
        try:
            found = self.servers.refresh().values()
        except ServerError as error:
            logger.warning("%s", error)
            return []
        self.names |= {served.name for served in found}
        return [ListedModel(served.card, None, True, server=served.model.endpoint.host) for served in found]


def _endpoints(urls: Sequence[str], keys: Sequence[str]) -> list[Endpoint]:
    if len(keys) > 1 and len(keys) != len(urls):
        raise OptionsError("keys_for_urls", keys=len(keys), urls=len(urls))
    each = keys if len(keys) > 1 else [keys[0] if keys else None] * len(urls)
    return [Endpoint.of(url, key) for url, key in zip(urls, each, strict=True)]


def _asked(endpoint: Endpoint) -> tuple[RemoteModel, ...] | OmniLMMError:
    try:
        return list_models(endpoint)
    except OmniLMMError as error:
        return error


def _named(models: Sequence[RemoteModel]) -> list[ServedModel]:
    count = Counter(model.id for model in models)
    return [
        ServedModel(model.id if count[model.id] == 1 else f"{model.id} ({model.endpoint.host})", model)
        for model in models
    ]
