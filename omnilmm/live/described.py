"""The way in which the assistant was first shown: one model describes the camera, a text model answers from that.

    frame every 2 s, if it shows something new ── Watcher ── the model that sees ──> descriptions, the last few
    question ── Described ── the descriptions as system prompt, and the talk so far ──> the text model

Frames are described one at a time; while one is, only the newest of those that came meanwhile is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Hashable
from contextlib import closing
from dataclasses import replace

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.engine.events import Engine, Event, Finished, PictureSlice
from omnilmm.engine.options import Options, options_for
from omnilmm.hardware import Choice
from omnilmm.sentences import Language, Sentence

KEPT = 6  # descriptions
LENGTH = 96  # tokens of one description

log = logging.getLogger(__name__)


class Watcher:
    """Describes the frames of one camera.

    Args:
        engine: the model that sees.
        language: of the descriptions.
    """

    def __init__(self, engine: Engine, language: Language) -> None:
        self._engine, self.language = engine, language
        self._waiting: Picture | None = None
        self._is_closed = False
        self._change = threading.Condition()
        self._found: deque[tuple[float, str]] = deque(maxlen=KEPT)
        self._owner = object()
        threading.Thread(target=self._run, name="watching", daemon=True).start()

    def add_frame(self, picture: Picture) -> None:
        """Take the newest frame, in place of one that nobody has described yet."""
        with self._change:
            self._waiting = picture
            self._change.notify()

    def close(self) -> None:
        """Stop describing; a description that is running stops within one token."""
        with self._change:
            self._is_closed = True
            self._change.notify()
        self._engine.forget(self._owner)

    @property
    def descriptions(self) -> list[tuple[int, str]]:
        """The last descriptions, oldest first: how many seconds ago, and the words."""
        now_s = time.monotonic()
        return [(int(now_s - seen_s), text) for seen_s, text in list(self._found)]

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._is_closed or self._waiting is not None)
                if self._is_closed:
                    return
                picture, self._waiting = self._waiting, None
            if picture is not None:
                self._describe(picture, time.monotonic())

    def _describe(self, picture: Picture, seen_s: float) -> None:
        asked = Conversation().with_message("user", picture, Sentence("live_describe").worded(self.language))
        options = replace(options_for(self._engine.card), max_new_tokens=LENGTH)
        try:
            with closing(self._engine.stream(asked, options, self._owner)) as events:
                for event in events:
                    if self._is_closed:
                        return
                    if isinstance(event, Finished) and event.text.strip():
                        self._found.append((seen_s, event.text.strip()))
        except Exception:  # the next frame is tried
            log.warning("A frame could not be described", exc_info=True)


class Described:
    """An engine whose model sees no picture, but reads what another one has seen; implements `events.Engine`.

    Args:
        text: the text model.
        watcher: describes the camera.
    """

    def __init__(self, text: Engine, watcher: Watcher) -> None:
        self._text, self.watcher = text, watcher

    @property
    def card(self) -> ModelCard:
        """The card of the text model."""
        return self._text.card

    @property
    def device(self) -> Choice:
        """Where the text model runs."""
        return self._text.device

    @property
    def dtype(self) -> Choice:
        """The dtype that it computes in."""
        return self._text.dtype

    @property
    def memory_bytes(self) -> int | None:
        """The memory of its weights, if known."""
        return self._text.memory_bytes

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message from the descriptions; see `events.Engine`."""
        return self._text.stream(self._described(conversation), options, owner)

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return None: the text model sees no picture."""
        return None

    def forget(self, owner: Hashable) -> None:
        """Drop what is cached for an owner."""
        self._text.forget(owner)

    def _described(self, conversation: Conversation) -> Conversation:
        """Return the conversation without pictures, with the descriptions in its system prompt.

        A model that has no system prompt gets them before the question.
        """
        language = self.watcher.language
        lines = [
            f"- {Sentence('live_seen', seconds=ago).worded(language)} {text}" for ago, text in self.watcher.descriptions
        ] or [f"- {Sentence('live_nothing_seen').worded(language)}"]
        seen = "\n".join((Sentence("live_system").worded(language), *lines))
        messages = tuple(Message(one.role, (one.text,)) for one in conversation.messages)
        if self.card.system_prompt:
            return Conversation(messages, "\n\n".join(filter(None, (conversation.system, seen))))
        *before, question = messages
        return Conversation((*before, Message(question.role, (f"{seen}\n\n{question.text}",))), conversation.system)
