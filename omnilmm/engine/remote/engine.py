"""The remote engine: answers conversations with a model behind an OpenAI-compatible server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import HEARTBEAT_S, Event, PictureSlice, Progress
from omnilmm.engine.options import BeamSearch, Options, check_abilities, options_for
from omnilmm.engine.remote import failures
from omnilmm.engine.remote.answer import RemoteAnswer
from omnilmm.engine.remote.client import LOOK_S, Client, Endpoint, NotJSONError, RefusedError, StreamCutError
from omnilmm.engine.remote.dialects import PLAIN, Dialect
from omnilmm.engine.remote.messages import Encoder
from omnilmm.engine.remote.models import card_of, model_ids
from omnilmm.engine.remote.request import RemoteRequest, too_long
from omnilmm.engine.remote.sse import EventTooLongError
from omnilmm.errors import InputError, OmniLMMError, OptionsError, ServerError
from omnilmm.hardware import Choice
from omnilmm.sentences import Sentence

BUSY_S = 60.0  # how long a server may refuse requests as busy before that is reported
CHECK_S = 2.0  # for the list of models in the middle of an answer
LONGEST_PAUSE_S = 10.0  # between two attempts
FAILURES = (RefusedError, NotJSONError, StreamCutError, EventTooLongError, httpx.HTTPError, httpx.InvalidURL)
Slices = Callable[[Picture, Options | None], tuple[PictureSlice, ...] | None]


class RemoteEngine:
    """Answers conversations through a server; implements `events.Engine`. Creating one contacts nobody.

    Args:
        url: base URL of the server, e.g. "http://127.0.0.1:8080/v1"; the only address that is ever contacted.
        model: id of the model there.
        key: sent as a bearer token.
        dialect: the fields that the server understands.
        card: the model's card; one without any knowledge of the model if omitted.
        device, dtype: where the model runs and in which dtype, for display.
        memory_bytes: the memory of its weights, if known.
        slices: returns how the model slices a picture; None if that is not known.
        busy_s: how long to wait for a server that is busy.

    Raises:
        OptionsError: The URL or the key cannot be used.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        *,
        dialect: Dialect = PLAIN,
        card: ModelCard | None = None,
        device: Choice | None = None,
        dtype: Choice | None = None,
        memory_bytes: int | None = None,
        slices: Slices | None = None,
        busy_s: float = BUSY_S,
    ) -> None:
        endpoint = Endpoint.of(url, key)
        self.client, self.model, self.dialect = Client(endpoint), model, dialect
        self.card = card or card_of(model, dialect)
        self.device = device or Choice(endpoint.host, Sentence("on_server", server=dialect.title))
        self.dtype = dtype or Choice("", Sentence("chosen_by_server"))
        self.memory_bytes = memory_bytes
        self.busy_s = busy_s
        self._slices = slices
        self._encoder = Encoder()
        self._own_names = {model}  # that chunks of this model have
        self._refused: set[str] = set()
        self._renamed: set[str] = set()
        self._owners: dict[Hashable, str] = {}

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message; see `events.Engine`.

        Raises:
            ServerError: The server cannot be reached, refuses the request, or its answer is broken.
        """
        options = options or options_for(self.card)
        conversation.check_question()
        self._check_abilities(conversation, options)
        asked_s = time.monotonic()
        request = self._request(conversation, options, owner)
        attempts = 0
        while True:
            answer = RemoteAnswer(time.monotonic(), time.monotonic() - asked_s)
            try:
                yield from self._attempt(request, answer)
            except FAILURES as error:
                if answer.has_begun or not isinstance(error, RefusedError):
                    raise self._error(error) from error
                if error.status in failures.BUSY:
                    yield from self._pause(error, attempts, asked_s)
                    attempts += 1
                else:
                    self._adapt(request, error)
            else:
                self._refused |= request.refused  # other answers may have ended meanwhile
                self._renamed |= request.renamed
                yield answer.finished(request.dropped, request.without_effect)
                return

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how the model slices a picture; see `events.Engine`."""
        return self._slices(picture, options) if self._slices else None

    def forget(self, owner: Hashable) -> None:
        """Forget the name under which an owner is known to the server, which drops its own caches by itself."""
        self._owners.pop(owner, None)

    def _request(self, conversation: Conversation, options: Options, owner: Hashable) -> RemoteRequest:
        more: dict[str, Any] = {}
        if owner is not None and self.dialect.is_ours:
            more["user"] = self._owners.setdefault(owner, uuid.uuid4().hex)
        return RemoteRequest(
            self.model, conversation, options, self.dialect, set(self._refused), more, renamed=set(self._renamed)
        )

    def _check_abilities(self, conversation: Conversation, options: Options) -> None:
        check_abilities(self.card, options)
        if isinstance(options, BeamSearch) and self.dialect.beam is None:
            raise OptionsError("no_beam_search_there", server=self.dialect.title)
        if conversation.images and not self.card.pictures:
            raise InputError("no_pictures_there", title=self.card.title)
        if conversation.system and not self.card.system_prompt:
            raise InputError("no_system_prompt", title=self.card.title)
        if conversation.videos:
            self.card.require_video()
        if len(set(conversation.pictures)) > 1 and not self.card.several_pictures:
            raise InputError("one_picture_only", title=self.card.title)

    def _attempt(self, request: RemoteRequest, answer: RemoteAnswer) -> Generator[Event]:
        waiting = Progress("encoding", total=len(request.conversation.messages[-1].pictures))
        yield waiting
        is_checked = not self.dialect.answers_any_model
        with closing(self.client.stream(request.body(self._encoder))) as chunks:
            for arrived in chunks:
                if arrived is None:
                    yield waiting
                    continue
                is_checked = is_checked or self._is_by_the_model(arrived[0].get("model"))
                for event in answer.add(*arrived):
                    waiting = event if isinstance(event, Progress) else waiting
                    yield event
        yield from answer.finish()

    def _is_by_the_model(self, named: object) -> bool:
        """Whether a chunk names the model that answers; False if it names none.

        Raises:
            ServerError: It is another one, and the server has ours no more.
        """
        if not isinstance(named, str):
            return False
        if named in self._own_names or not (models := self._models(CHECK_S)):
            return True
        if self.model not in models:
            url = self.client.endpoint.shown
            raise ServerError("server_has_another_model", url=url, model=self.model, models=models)
        self._own_names.add(named)
        return True

    def _adapt(self, request: RemoteRequest, error: RefusedError) -> None:
        """Change the request so that the server may accept it, or raise the error for the reader."""
        if failures.is_too_long(error):
            if not request.shorten(error):
                raise too_long(request, error, failures.quoted(error)) from error
            return
        if request.conversation.images and failures.refuses_pictures(error):
            raise InputError("no_pictures_there", title=self.card.title) from error
        if error.status == 413 and request.shrink():
            return
        names = failures.refused_fields(error, list(request.fields()))
        if request.leave_out(names, are_unknown=failures.are_unknown(error)):
            return
        raise self._error(error) from error

    def _pause(self, error: RefusedError, attempts: int, asked_s: float) -> Generator[Event]:
        """Wait for a busy server, as long as it asks for, or longer each time."""
        pause_s = min(retry_after_s(error.headers, datetime.now(UTC)) or 0.5 * 2**attempts, LONGEST_PAUSE_S)
        until_s = time.monotonic() + pause_s
        if until_s - asked_s > self.busy_s:
            raise self._error(error) from error
        while (left_s := until_s - time.monotonic()) > 0:
            yield Progress("busy")
            time.sleep(min(left_s, HEARTBEAT_S))

    def _error(self, error: Exception) -> OmniLMMError:
        is_unknown = isinstance(error, RefusedError) and error.status == 404
        return failures.error_of(error, self.client.endpoint, self._models() if is_unknown else None)

    def _models(self, timeout_s: float = LOOK_S) -> list[str]:
        """Return the ids of the models there; none if the server does not list them."""
        try:
            return model_ids(self.client, timeout_s)
        except FAILURES:
            return []


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds that a `Retry-After` header asks for, as a number or a date; 0 without one.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value) if len(value) < 6 else 0.0
    try:
        return max((parsedate_to_datetime(value) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # none, or without a time zone
        return 0.0
