"""An engine that is still being loaded: a page can be served, and asked, from the first second.

Who asks meanwhile sees how far the download and the loading are, and is answered when it is done.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Generator, Hashable
from typing import Protocol, runtime_checkable

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Engine, Event, Progress, View
from omnilmm.engine.options import Options
from omnilmm.errors import CheckpointError, OmniLMMError
from omnilmm.hardware import Choice

HEARTBEAT_S = 0.3  # the longest that `next()` of a stream blocks
STOP_S = 15.0  # a connection that hangs is given up within 10
PENDING = Choice("…", "still loading")

logger = logging.getLogger(__name__)

Load = Callable[[Callable[[int, int], None]], Engine]


@runtime_checkable
class WarmingUp(Protocol):
    """An engine whose first answer takes longer than the others, unless it is warmed up."""

    def warm_up(self) -> None:
        """Do what is done only once; others can ask meanwhile."""


class StartingEngine:
    """Loads in the background and answers once it is there.

    Args:
        card: of the model.
        load: gives the engine; is given a function to report downloaded bytes, and all bytes, to.
    """

    def __init__(self, card: ModelCard, load: Load) -> None:
        self._card, self._load = card, load
        self._engine: Engine | None = None
        self.failure: Exception | None = None
        self.progress = Progress("loading")
        self.done = threading.Event()
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="loading", daemon=True).start()

    def _run(self) -> None:
        try:
            self._engine = self._load(self._report)
        except Exception as error:  # whatever it is, whoever waits has to hear of it
            if not isinstance(error, OmniLMMError):
                logger.exception("%s could not be loaded", self._card.title)
            self.failure = error
        finally:
            self.done.set()
        if isinstance(self._engine, WarmingUp):
            self._warm_up(self._engine)

    def _warm_up(self, engine: WarmingUp) -> None:
        try:
            engine.warm_up()
        except Exception:  # then the first answer will say what is wrong
            logger.exception("%s could not be warmed up", self._card.title)

    def _report(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise CheckpointError("The download was stopped; the same command goes on with it.")
        self.progress = Progress("downloading", done, total) if done < total else Progress("loading")

    @property
    def card(self) -> ModelCard:
        """Which model answers."""
        return self._engine.card if self._engine else self._card

    @property
    def device(self) -> Choice:
        """On what, and why."""
        return self._engine.device if self._engine else PENDING

    @property
    def dtype(self) -> Choice:
        """With which number type, and why."""
        return self._engine.dtype if self._engine else PENDING

    @property
    def memory_bytes(self) -> int | None:
        """What its weights really take."""
        return self._engine.memory_bytes if self._engine else None

    @property
    def is_ready(self) -> bool:
        """Whether answers can begin."""
        return self._engine is not None

    def wait(self) -> None:
        """Until the model is there.

        Raises:
            OmniLMMError: Why it cannot be loaded.
        """
        while not self.done.wait(HEARTBEAT_S):  # in steps, so that Ctrl-C is heard
            pass
        if self.failure is not None:
            raise self._reason() from self.failure

    def stop(self) -> None:
        """Stop a download that is under way: what has come is kept."""
        self._stopping.set()
        if self.progress.stage == "downloading":
            self.done.wait(STOP_S)

    def release(self) -> None:
        """Nobody needs this model any more: a download stops, and its memory is free once the last answer has ended."""
        self.stop()
        self.done.wait()
        self._engine = None
        gc.collect()

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message of a conversation, see `events.Engine`; before that, how far the loading is."""
        while not self.done.wait(HEARTBEAT_S):
            yield self.progress
        if self._engine is None:
            raise self._reason()
        yield from self._engine.stream(conversation, options, owner)

    def views(self, picture: Picture) -> tuple[View, ...] | None:
        """How the model looks at a picture; None until it is there."""
        return self._engine.views(picture) if self._engine is not None else None

    def forget(self, owner: Hashable) -> None:
        """Keep nothing of an owner's conversations."""
        if self._engine is not None:
            self._engine.forget(owner)

    def _reason(self) -> Exception:
        if isinstance(self.failure, OmniLMMError):
            return self.failure
        return CheckpointError(f"{self._card.title} could not be loaded: {self.failure}. The log has the details.")
