"""One visitor's chat: the conversation, and the answer that is being given. Free of any page framework.

    ask() / again() ── Draft, Draft, … ──> the page shows them
          └── at the end the turn is kept: whole, or as far as it was when stopped; a failed turn leaves no trace

Stopping is a flag that the loop looks at after every event of the engine, which comes at least every third of a second.
Nobody closes the engine's iterator from another thread: a generator that is running cannot be closed from outside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from omnilmm.conversation import Conversation, Message, Part
from omnilmm.engine.events import Engine, Event, Finished, Preview, Progress, TextDelta
from omnilmm.engine.options import Options
from omnilmm.errors import InputError
from omnilmm.ui import texts

REFRESH_S = 0.05  # a page is repainted at most this often: a fast model would outrun the browser

State = Literal["growing", "kept", "withdrawn", "forgotten"]


@dataclass(frozen=True)
class Draft:
    """The newest turn while it is being answered.

    Attributes:
        history: the conversation before it.
        question: what was asked.
        text: the answer so far.
        note: the small line under it.
        state: "growing", and at the end: "kept" in the conversation, "withdrawn" since it was stopped before the first
            word, or "forgotten" with the whole conversation.
    """

    history: Conversation
    question: Message
    text: str = ""
    note: str = texts.THINKING
    state: State = "growing"

    def after(self, event: Event) -> Draft:
        """The draft after one more event of the engine."""
        match event:
            case Progress():  # engines repeat it as a heartbeat, also after the first word
                return self if self.text else replace(self, note=texts.progress_note(event))
            case TextDelta():
                return replace(self, text=self.text + event.text, note="")
            case Preview():
                return replace(self, text=event.text, note=texts.PREVIEW)
            case Finished():
                return replace(self, text=event.text, note=texts.finished_note(event), state="kept")

    def stopped(self) -> Draft:
        """The draft as it is when the visitor does not want more of it."""
        return replace(self, note=texts.STOPPED, state="kept") if self.text else replace(self, state="withdrawn")


class _Running:
    """The answer being given, as others see it: they can ask it to stop, or to be forgotten."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.forget = False


class Session:
    """One visitor's conversation; its turns follow each other, whoever asks for them.

    Attributes:
        conversation: the turns that are kept.
        notes: the small line under each answer of it.
        closed: the visitor is gone.
    """

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.notes: tuple[str, ...] = ()
        self._turn = threading.Lock()
        self._running: _Running | None = None
        self._asking: set[object] = set()  # answers that are given, or wait for the one before them
        self.closed = False
        self._begins = 0  # the first message that the model sees: one that takes one picture sees the newest
        self._owner = object()  # under this key the engine keeps what makes the next turn faster
        self._engine: Engine | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is being given, or one is about to be."""
        return bool(self._asking)

    def ask(self, engine: Engine, question: tuple[Part, ...], options: Options) -> Iterator[Draft]:
        """Answer a new question; the running answer is stopped and put away first.

        Raises:
            OmniLMMError: The question cannot be answered; the conversation is as it was.
        """
        with self._next_turn():
            yield from self._answer(engine, self.conversation, Message("user", question), options)

    def again(self, engine: Engine, options: Options) -> Iterator[Draft]:
        """Answer the last question anew; the old answer stays until there is a new one.

        Raises:
            OmniLMMError: Nothing was asked yet, or the question cannot be answered; the conversation is as it was.
        """
        with self._next_turn():
            if not self.conversation.messages:
                raise InputError(texts.NOTHING_TO_REGENERATE)
            question = self.conversation.messages[-2]
            yield from self._answer(engine, self.conversation.without_last(2), question, options)

    def stop(self) -> None:
        """Stop the running answer, if there is one, and keep what it has said."""
        if running := self._running:
            running.stop.set()

    def clear(self) -> None:
        """Stop the running answer and forget everything; returns when the model is free."""
        if running := self._running:
            running.forget = True
        self._forget()  # at once, so that the running answer cannot paint it once more
        self.stop()
        with self._turn:
            self._forget()

    def close(self) -> None:
        """The visitor is gone: stop the running answer and start no other."""
        self.closed = True
        self.stop()
        self._leave_engine()

    def _forget(self) -> None:
        self.conversation, self.notes, self._begins = Conversation(), (), 0
        self._leave_engine()

    def _leave_engine(self) -> None:
        if self._engine is not None:
            self._engine.forget(self._owner)

    @contextmanager
    def _next_turn(self) -> Iterator[None]:
        turn = object()
        self._asking.add(turn)
        self.stop()
        with self._turn:
            try:
                yield
            finally:
                self._asking.discard(turn)

    def _answer(self, engine: Engine, history: Conversation, question: Message, options: Options) -> Iterator[Draft]:
        if self.closed:
            return
        begins = min(self._begins, len(history.messages))
        if question.pictures and not engine.card.several_pictures and _shows_pictures(history.messages[begins:]):
            begins = len(history.messages)
        asked = Conversation((*history.messages[begins:], question), history.system)
        asked.check_question()
        running = self._running = _Running()
        self._engine = engine
        draft = Draft(history, question)
        painted_s = 0.0
        try:
            yield draft
            with closing(engine.stream(asked, options, self._owner)) as events:
                for event in events:
                    draft = draft.after(event)
                    if draft.state == "kept" or running.stop.is_set():
                        break
                    if time.monotonic() - painted_s >= REFRESH_S:
                        yield draft
                        painted_s = time.monotonic()
        finally:
            self._running = None
        if running.forget or self.closed:
            draft = replace(draft, state="forgotten")
        elif draft.state != "kept":
            draft = draft.stopped()
        if draft.state == "kept":
            is_set_aside = 0 < begins == len(history.messages)
            note = f"{draft.note} · {texts.SET_ASIDE}" if is_set_aside else draft.note
            self.notes = (*self.notes[: len(history.messages) // 2], note)
            answer = Message("assistant", (draft.text,))
            self.conversation = replace(history, messages=(*history.messages, question, answer))
            self._begins = begins
        yield draft


def _shows_pictures(messages: tuple[Message, ...]) -> bool:
    return any(message.pictures for message in messages)


class Sessions:
    """The sessions of a page by their key; one that is gone leaves nothing behind."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, key: str) -> Session:
        """The session of a key, a new one at first."""
        with self._lock:
            return self._sessions.setdefault(key, Session())

    def close(self, key: str) -> None:
        """Stop and forget the session of a visitor who left."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.close()
