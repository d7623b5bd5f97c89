"""One visitor's chat: the conversation, and the running answer. Independent of any page framework.

    ask() / regenerate() / edit() ── Draft, Draft, … ──> the page shows them
                └── at the end the turn joins the conversation, also a stopped answer; a failed turn leaves no trace

Stopping sets a flag that the loop checks after every event of the engine, which comes at least every third of a second.
No other thread closes the engine's iterator: a generator that is running cannot be closed from outside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from omnilmm.conversation import Conversation, Message, Part, Thought
from omnilmm.engine.events import Engine, Event, Finished, Preview, Progress, TextDelta, ThoughtDelta
from omnilmm.engine.options import Options, without_disabilities
from omnilmm.errors import InputError
from omnilmm.ui.note import Note
from omnilmm.ui.past import Chat
from omnilmm.ui.photos import is_about_a_photo
from omnilmm.ui.samples import is_untouched
from omnilmm.ui.session_store import SavedSession
from omnilmm.ui.texts import ENGLISH, Texts

REFRESH_S = 0.05  # a page is rendered at most this often: a fast model would outrun the browser
SPEED_AFTER_S = 0.5  # the measured speed of an answer is unreliable before that

THINKING = Note()

State = Literal["generating", "completed", "cancelled", "discarded"]


@dataclass(frozen=True)
class Draft:
    """The newest turn while it is being answered.

    Attributes:
        history: the conversation before it.
        question: the message being answered.
        text: the answer so far.
        thought: the thought before it, of a model that thinks.
        note: the small line under it.
        state: "generating", and at the end "completed" (part of the conversation), "cancelled" (stopped before the
            first word, that of a thought included), or "discarded" (the session was cleared or closed).
        asked_s: time of the question, on the monotonic clock.
        first: time of the first words, and their number of tokens.
        is_photo: the newest picture is a photo, and the model that answers knows drawings only.
        starts_new_chat: whether it begins a new chat after an earlier one.
    """

    history: Conversation
    question: Message
    text: str = ""
    note: Note | None = THINKING
    state: State = "generating"
    asked_s: float = field(default_factory=time.monotonic, compare=False)
    first: tuple[float, int] | None = field(default=None, compare=False)
    is_photo: bool = False
    starts_new_chat: bool = False
    thought: Thought | None = None

    def after(self, event: Event, now_s: float | None = None) -> Draft:
        """Return the draft after one more event of the engine.

        Args:
            event: the event.
            now_s: its time on the monotonic clock; now if left out.
        """
        now_s = time.monotonic() if now_s is None else now_s
        match event:
            case Progress():  # engines repeat it as a heartbeat, also after the first word
                waited = Note(event, waited_s=int(now_s - self.asked_s))
                return self if self.first else replace(self, note=waited)
            case ThoughtDelta():
                first = self.first or (now_s, event.new_tokens)
                text = (self.thought.text if self.thought else "") + event.text
                growing = Thought(text, event.new_tokens, now_s - first[0], is_closed=False)
                note = Note(event, tokens_per_s=_speed(first, event, now_s))
                return replace(self, thought=growing, note=note, first=first)
            case TextDelta() | Preview():
                text = event.text if isinstance(event, Preview) else self.text + event.text
                first = self.first or (now_s, event.new_tokens)
                note = Note(event, tokens_per_s=_speed(first, event, now_s))
                return replace(self, text=text, thought=self._thought(event), note=note, first=first)
            case Finished():
                thought = event.thought or self.thought
                return replace(self, text=event.text, thought=thought, note=Note(event), state="completed")

    def _thought(self, event: TextDelta | Preview) -> Thought | None:
        """Return the thought: of beam search the best so far; when sampling, it ends with the answer's first word."""
        if isinstance(event, Preview):
            return event.thought
        return replace(self.thought, is_closed=True) if self.thought else None

    def stopped(self) -> Draft:
        """Return the draft in its state after the visitor stopped it."""
        note = Note(stopped=True)
        has_begun = self.text or self.thought
        return replace(self, note=note, state="completed") if has_begun else replace(self, state="cancelled")


def _speed(first: tuple[float, int], event: TextDelta | ThoughtDelta | Preview, now_s: float) -> float:
    """Return tokens per second since the first words; 0 while the estimate is unreliable."""
    seconds, tokens = now_s - first[0], event.new_tokens - first[1]
    return tokens / seconds if seconds >= SPEED_AFTER_S and tokens > 0 else 0.0


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
        self._running: _Running | None = None
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
        system = history.system if engine.card.system_prompt else None
        asked = Conversation((*seen, question), system)
        asked.check_question()
        running = self._running = _Running()
        if engine is not self._engine:
            self._leave_engine()
        self._engine = engine
        options = without_disabilities(engine.card, options)  # they may be meant for the previous model
        is_photo = engine.card.drawings_only and is_about_a_photo(asked)
        draft = Draft(
            history,
            question,
            is_photo=is_photo,
            starts_new_chat=starts_new_chat and not is_untouched(self.conversation),
        )
        shown_s = 0.0
        try:
            yield draft
            with closing(engine.stream(asked, options, self._owner)) as events:
                for event in events:
                    draft = draft.after(event)
                    if draft.state == "completed" or running.stop.is_set():
                        break
                    if time.monotonic() - shown_s >= REFRESH_S:  # also without news: the caller checks for the visitor
                        yield draft
                        shown_s = time.monotonic()
        finally:
            self._running = None
        if running.forget or self.closed:
            draft = replace(draft, state="discarded")
        elif draft.state != "completed":
            draft = draft.stopped()
        if draft.state == "completed":
            is_set_aside = not seen and bool(history.messages)
            note = replace(draft.note or Note(), set_aside=is_set_aside, is_photo=is_photo)
            notes = (*self.notes[: len(history.messages) // 2], note)
            answer = Message("assistant", (draft.text,), draft.thought)
            system = self.conversation.system  # it may have been changed meanwhile
            earlier = self.snapshot if draft.starts_new_chat else self.earlier
            chat = self.chat
            if starts_new_chat and self.conversation.messages:
                chat = Chat()
            elif chat.text_of:  # from now on it is a chat of its own
                chat = replace(chat, text_of="")
            self._become(Conversation((*history.messages, question, answer), system), notes, chat, earlier)
        yield draft


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
