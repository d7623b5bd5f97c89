"""One visitor's chat: the conversation, and the running answer. Independent of any page framework.

    ask() / regenerate() / edit() ── Draft, Draft, … ──> the page shows them
                └── at the end the turn joins the conversation, also a stopped answer; a failed turn leaves no trace

Stopping sets a flag that the loop checks after every event of the engine, which comes at least every third of a second.
No other thread closes the engine's iterator: a generator that is running cannot be closed from outside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from omnilmm.conversation import Conversation, Message, Part
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Options, without_disabilities
from omnilmm.errors import InputError
from omnilmm.ui.draft import Draft
from omnilmm.ui.note import Note
from omnilmm.ui.past import Chat
from omnilmm.ui.photos import is_about_a_photo
from omnilmm.ui.samples import is_untouched
from omnilmm.ui.session_store import SavedSession
from omnilmm.ui.texts import ENGLISH, Texts

REFRESH_S = 0.05  # a page is rendered at most this often: a fast model would outrun the browser


class _Running:
    """Flags by which other threads stop or discard the running answer."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.forget = False


class Session:
    """One visitor's conversation; its turns run one after the other, whichever thread requests them.

    Attributes:
        conversation: the completed turns.
        notes: for the small line under each answer of it.
        chat: which of the visitor's past chats it is, or will be.
        earlier: the chat that `undo` reopens in place of this one's first turn; None if there is none.
        texts: the visitor's language.
        closed: whether the visitor has left.
    """

    def __init__(self, texts: Texts = ENGLISH) -> None:
        self.conversation = Conversation()
        self.notes: tuple[Note | None, ...] = ()
        self.chat = Chat()
        self.earlier: SavedSession | None = None
        self.texts = texts
        self._turn = threading.Lock()
        self._changing = threading.Lock()  # a chat is never read with the conversation of another one
        self._running: _Running | None = None  # of the newest answer; once it has ended, its flags have no effect
        self._is_cleared = False  # the next turn begins by forgetting what the answer before it may have left
        self._asking: set[object] = set()  # answers that are running, or queued behind another one
        self.closed = False
        self._owner = object()  # key under which the engine caches what speeds up the next turn
        self._engine: Engine | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is running or queued."""
        return bool(self._asking)

    def ask(self, engine: Engine, question: tuple[Part, ...], options: Options) -> Iterator[Draft]:
        """Answer a new question; the running answer is stopped and finalized first.

        Raises:
            OmniLMMError: The question cannot be answered; the conversation is as it was.
        """
        with self._next_turn():
            yield from self._answer(engine, self.conversation, Message("user", question), options)

    def ask_in_new_chat(self, engine: Engine, question: tuple[Part, ...], options: Options) -> Iterator[Draft]:
        """Answer a question in a new chat; `undo` reopens the previous one.

        Raises:
            OmniLMMError: The question cannot be answered; the conversation is as it was.
        """
        with self._next_turn():
            empty = Conversation(system=self.conversation.system)
            yield from self._answer(engine, empty, Message("user", question), options, starts_new_chat=True)

    def regenerate(self, engine: Engine, options: Options) -> Iterator[Draft]:
        """Regenerate the last answer; the old answer stays until there is a new one.

        Raises:
            OmniLMMError: Nothing was asked yet, or the question cannot be answered; the conversation is as it was.
        """
        with self._next_turn():
            if not self.conversation.messages:
                raise InputError("nothing_to_regenerate")
            question = self.conversation.messages[-2]
            yield from self._answer(engine, self.conversation.without_last(2), question, options)

    def edit(self, engine: Engine, number: int, question: tuple[Part, ...], options: Options) -> Iterator[Draft]:
        """Answer another question in place of an earlier one; later turns are removed only when there is a new answer.

        Args:
            engine: generates the answer.
            number: index of the message to replace, counted from 0.
            question: the new question.
            options: for the answer.

        Raises:
            OmniLMMError: There is no such question, or it cannot be answered; the conversation is as it was.
        """
        with self._next_turn():
            count = len(self.conversation.messages)
            if not 0 <= number < count or self.conversation.messages[number].role != "user":
                raise InputError("no_question_to_edit", number=number, count=count)
            before = self.conversation.without_last(count - number)
            yield from self._answer(engine, before, Message("user", question), options)

    def undo(self) -> Message:
        """Undo the last turn; the running answer is stopped and finalized first.

        If it is the first turn of a chat with an `earlier` one, that one is reopened.

        Returns:
            The question of that turn.

        Raises:
            InputError: Nothing was asked yet.
        """
        with self._next_turn():
            if not self.conversation.messages:
                raise InputError("nothing_to_undo")
            question = self.conversation.messages[-2]
            if self.reopens and self.earlier:
                before = self.earlier
                self._become(before.conversation, before.notes, before.chat, before.earlier)
            else:
                self._become(self.conversation.without_last(2), self.notes[:-1], self.chat, self.earlier)
            return question

    @property
    def reopens(self) -> bool:
        """Whether `undo` reopens the earlier chat."""
        return self.earlier is not None and len(self.conversation.messages) == 2

    def load(
        self,
        conversation: Conversation,
        notes: tuple[Note | None, ...] | None = None,
        chat: Chat | None = None,
        earlier: SavedSession | None = None,
    ) -> None:
        """Continue with another conversation, e.g. an imported one; the running answer is stopped first."""
        with self._next_turn():
            self._become(conversation, notes or (None,) * (len(conversation.messages) // 2), chat or Chat(), earlier)

    def set_system(self, system: str) -> None:
        """Set the system prompt, from the next question on."""
        self.conversation = replace(self.conversation, system=system.strip() or None)

    @property
    def can_continue(self) -> bool:
        """Whether the last answer was cut off and can be continued; a model could not resume within a thought."""
        is_cut_off = bool(self.notes and self.notes[-1] and self.notes[-1].can_continue)
        last = self.conversation.messages[-1:]
        return is_cut_off and not any(message.thought and not message.text for message in last)

    @property
    def snapshot(self) -> SavedSession:
        """The state to store for a visitor who may come back."""
        with self._changing:
            return SavedSession(self.conversation, self.notes, self.chat, self.earlier)

    def _become(
        self,
        conversation: Conversation,
        notes: tuple[Note | None, ...],
        chat: Chat,
        earlier: SavedSession | None = None,
    ) -> None:
        with self._changing:
            self.conversation, self.notes, self.chat, self.earlier = conversation, notes, chat, earlier

    def stop(self) -> None:
        """Stop the running answer, if there is one, and keep its text."""
        if running := self._running:
            running.stop.set()

    def clear(self) -> None:
        """Stop the running answer and clear the conversation; returns once the model is free."""
        if running := self._running:
            running.forget = True
        self._is_cleared = True
        self._forget()  # at once, so that the running answer is not rendered again
        if running:
            running.stop.set()
        with self._turn:  # a question that was asked since may have been answered meanwhile: it stays
            self._forget_if_cleared()

    def close(self) -> None:
        """Handle a visitor who has left: stop the running answer and start no other."""
        self.closed = True
        self.leave()

    def leave(self) -> None:
        """Stop the running answer, and drop what the engine caches for the next one; there may be another."""
        self.stop()
        self._leave_engine()

    def _forget(self) -> None:
        self._become(Conversation(system=self.conversation.system), (), Chat())
        self._leave_engine()

    def _forget_if_cleared(self) -> None:
        if self._is_cleared:
            self._is_cleared = False
            self._forget()

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
                self._forget_if_cleared()
                yield
            finally:
                self._asking.discard(turn)

    def _answer(
        self,
        engine: Engine,
        history: Conversation,
        question: Message,
        options: Options,
        *,
        starts_new_chat: bool = False,
    ) -> Iterator[Draft]:
        if self.closed:
            return
        seen = history.messages if engine.card.several_pictures else _about_one_picture(history.messages, question)
        asked = Conversation((*seen, question), history.system if engine.card.system_prompt else None)
        asked.check_question()
        running = self._running = _Running()
        self._use(engine)
        draft = Draft(
            history,
            question,
            is_photo=engine.card.drawings_only and is_about_a_photo(asked),
            starts_new_chat=starts_new_chat and not is_untouched(self.conversation),
        )
        draft = yield from self._stream_drafts(draft, engine, asked, options, running.stop)
        if running.forget or self.closed:
            draft = replace(draft, state="discarded")
        elif draft.state != "completed":
            draft = draft.stopped()
        if draft.state == "completed":
            is_set_aside = not seen and bool(history.messages)
            note = replace(draft.note or Note(), set_aside=is_set_aside, is_photo=draft.is_photo)
            self._append(draft, note, is_asked_anew=starts_new_chat)
        yield draft

    def _use(self, engine: Engine) -> None:
        """Note which engine answers; what another one has cached for this visitor is dropped."""
        if engine is not self._engine:
            self._leave_engine()
        self._engine = engine

    def _stream_drafts(
        self, draft: Draft, engine: Engine, asked: Conversation, options: Options, stop: threading.Event
    ) -> Generator[Draft, None, Draft]:
        """Yield the draft as it grows, at most every `REFRESH_S`; return it at its end or when stopped."""
        yield draft
        shown_s = 0.0
        options = without_disabilities(engine.card, options)  # they may be meant for the previous model
        with closing(engine.stream(asked, options, self._owner)) as events:
            for event in events:
                draft = draft.after(event)
                if draft.state == "completed" or stop.is_set():
                    break
                if time.monotonic() - shown_s >= REFRESH_S:  # also without news: the caller checks for the visitor
                    yield draft
                    shown_s = time.monotonic()
        return draft

    def _append(self, draft: Draft, note: Note, *, is_asked_anew: bool) -> None:
        """Make a completed turn part of the conversation, of a new one if that was asked for."""
        answer = Message("assistant", (draft.text,), draft.thought)
        system = self.conversation.system  # it may have been changed meanwhile
        now = Conversation((*draft.history.messages, draft.question, answer), system)
        notes = (*self.notes[: len(draft.history.messages) // 2], note)
        earlier = self.snapshot if draft.starts_new_chat else self.earlier
        is_new = is_asked_anew and bool(self.conversation.messages)
        # What was restored as text alone is from now on a chat of its own.
        self._become(now, notes, Chat() if is_new else replace(self.chat, text_of=""), earlier)


def _about_one_picture(messages: tuple[Message, ...], question: Message) -> tuple[Message, ...]:
    """Return what a one-picture model sees of a conversation: the turns since the newest picture first appeared."""
    pictures = [*Conversation(messages).pictures, *question.pictures]
    if not pictures:
        return messages
    newest, begins = pictures[-1], len(messages)
    for number in reversed(range(len(messages))):
        if newest in messages[number].pictures:
            begins = number
        elif messages[number].pictures:
            break
    return tuple(
        replace(message, parts=tuple(part for part in message.parts if isinstance(part, str) or part == newest))
        for message in messages[begins:]
    )
