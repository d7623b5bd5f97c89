"""The newest turn while it is being answered: what the events of the engine make of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Literal

from omnilmm.conversation import Conversation, Message, Thought
from omnilmm.engine.events import Event, Finished, Preview, Progress, TextDelta, ThoughtDelta
from omnilmm.ui.note import Note

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
