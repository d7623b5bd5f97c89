"""Answers with llama.cpp in a child process, which is started again if it has crashed."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Generator, Hashable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import HEARTBEAT_S, Event, Finished, PictureSlice, Progress, TextDelta, ThoughtDelta, Usage
from omnilmm.engine.llamacpp.child import LlamaServer, Settings
from omnilmm.engine.llamacpp.slicing import slices
from omnilmm.engine.llamacpp.starting import Start
from omnilmm.engine.options import Options, options_for
from omnilmm.engine.remote.dialects import LLAMA_CPP
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.errors import OmniLMMError, ServerError
from omnilmm.gguf_header import Header
from omnilmm.hardware import Choice
from omnilmm.sentences import Sentence

logger = logging.getLogger(__name__)

END_S = 2.0  # for a crashed child to be noticed after its connection broke


@dataclass(frozen=True)
class Sight:
    """How a model sees, from its mmproj file.

    Attributes:
        slice_size, patch_size: sides of a slice and of a patch in pixels.
        queries: features of each view.
    """

    slice_size: int
    patch_size: int
    queries: int

    @classmethod
    def of(cls, header: Header) -> Sight | None:
        """Return how MiniCPM-V from 2.5 to 4.5 sees; None for other models, whose rules are not known here."""
        values = header.values
        if values.get("clip.projector_type") != "resampler":
            return None
        queries = values.get("clip.minicpmv_query_num") or (96 if values.get("clip.minicpmv_version") == 2 else 64)
        return cls(values["clip.vision.image_size"], values["clip.vision.patch_size"], queries)

    def slices(self, picture: Picture) -> tuple[PictureSlice, ...]:
        """Return the views of a picture."""
        return slices(picture.image.size, self.slice_size, self.patch_size, self.queries)

    def tokens(self, picture: Picture) -> int:
        """Return the features of a picture."""
        return sum(view.tokens for view in self.slices(picture))


class LlamaCppEngine:
    """Answers conversations with llama.cpp; implements `events.Engine`. Call `close` when it is not needed any more.

    Args:
        settings: settings of the server.
        card: the model's card.
        dtype: the quantisation, and why.
        sight: how the model sees, if that is known.

    Raises:
        OmniLMMError: It cannot be started, see `child.LlamaServer`.
    """

    def __init__(self, settings: Settings, card: ModelCard, dtype: Choice, sight: Sight | None) -> None:
        self._settings, self._sight = settings, sight
        self.card, self.dtype = card, dtype
        self.memory_bytes: int | None = sum(
            Path(path).stat().st_size for path in (settings.model, settings.mmproj) if path
        )
        self._lock = threading.Lock()
        self._is_closed = False
        self._server: LlamaServer | None = None
        self._inner: RemoteEngine | None = None
        self._starting: Start | None = None  # left by a question whose reader has gone
        self._take(LlamaServer(settings))

    @property
    def device(self) -> Choice:
        """Where it runs: what llama.cpp found besides the CPU."""
        names = self._server.devices if self._server else []
        if names:
            return Choice(names[0], Sentence("llama_cpp_on_gpu", names=names))
        return Choice("cpu", Sentence("llama_cpp_on_cpu", threads=self._settings.threads))

    @property
    def pid(self) -> int | None:
        """The process id of the child."""
        return self._server.pid if self._server else None

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message; see `events.Engine`.

        Raises:
            ServerError: llama.cpp ended during the answer; the next question starts it again.
        """
        options = options or options_for(self.card)
        if options.thinking is None and self.card.thinking is not None:
            options = replace(options, thinking=self.card.thinking)  # llama.cpp's own default may be another
        for is_last in (False, True):
            server, inner = yield from self._running()
            has_begun = False
            try:
                with closing(inner.stream(conversation, options, owner)) as events:
                    for event in events:
                        has_begun = has_begun or isinstance(event, TextDelta | ThoughtDelta)
                        yield self._counted(event, conversation) if isinstance(event, Finished) else event
                return
            except OmniLMMError as error:
                if self._is_closed or not server.has_ended(END_S):
                    raise
                logger.warning("llama.cpp ended: %s", server.reason)
                if has_begun or is_last:  # else it may have ended long before
                    raise ServerError("llama_cpp_ended", title=self.card.title, reason=server.reason) from error

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how llama.cpp slices a picture; None if that is not known."""
        return self._sight.slices(picture) if self._sight else None

    def forget(self, owner: Hashable) -> None:
        """Drop what is known of an owner. llama.cpp keeps the tokens of a conversation until it needs their place."""
        if inner := self._inner:
            inner.forget(owner)

    def warm_up(self) -> None:
        """Answer with one token."""
        options = options_for(self.card, max_new_tokens=1)
        for _ in self.stream(Conversation().with_message("user", "Hi"), options):
            pass

    def close(self) -> None:
        """End the child, which frees its memory; answers in progress break off."""
        with self._lock:
            self._is_closed = True
            server, self._server, self._inner = self._server, None, None
            start, self._starting = self._starting, None
        if server:
            server.stop()
        if start:
            start.abandon()
            start.is_over(None)

    def _running(self) -> Generator[Event, None, tuple[LlamaServer, RemoteEngine]]:
        """Return the server and its client, after starting a new one if the old one has ended.

        Whoever leaves meanwhile leaves the start to the next question, so that no second one is loaded beside it.
        """
        while not self._lock.acquire(timeout=HEARTBEAT_S):
            yield Progress("loading")
        try:
            if self._is_closed:
                raise ServerError("llama_cpp_closed", title=self.card.title)
            if self._server is None or not self._server.is_alive:
                start = self._begun()
                while True:
                    yield Progress("loading")
                    if start.is_over(HEARTBEAT_S):
                        break
                self._starting = None
                self._take(start.take())
        finally:
            self._lock.release()
        if self._server is None or self._inner is None:
            raise ServerError("llama_cpp_closed", title=self.card.title)
        return self._server, self._inner

    def _begun(self) -> Start:
        """Return the start that an earlier question has left, or a new one."""
        if self._server:
            self._server.stop()
        if self._starting is None or self._starting.has_failed:
            self._starting = Start(self._settings)
            weakref.finalize(self, self._starting.abandon)
        return self._starting

    def _take(self, server: LlamaServer) -> None:
        self._server = server
        self._inner = RemoteEngine(
            f"{server.url}/v1", self._settings.alias, server.key, dialect=LLAMA_CPP, card=self.card
        )
        weakref.finalize(self, server.stop)

    def _counted(self, answer: Finished, conversation: Conversation) -> Finished:
        """Tell the tokens of pictures from those of text, which llama.cpp counts together."""
        if self._sight is None or answer.usage.picture_tokens or answer.dropped_messages:
            return answer
        usage = answer.usage
        prompt = usage.text_tokens + usage.picture_tokens
        pictures = min(sum(map(self._sight.tokens, conversation.pictures)), prompt)
        return replace(answer, usage=Usage(prompt - pictures, pictures, usage.new_tokens, usage.reused))
