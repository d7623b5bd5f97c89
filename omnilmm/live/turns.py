"""Whose turn it is in a spoken conversation.

    idle -> listening -> thinking -> speaking -> idle
                ^------------┴-----------'  speech at any time interrupts: the answer and its sound stop

The states change by what is heard, answered and played; nothing here knows of microphones, models or pages.
"""

from __future__ import annotations

from typing import Literal

State = Literal["idle", "listening", "thinking", "speaking"]


class Turns:
    """The state of one conversation.

    Attributes:
        state: "idle", "listening" to the user, "thinking" until the first sentence of the answer, or "speaking".
        turn: number of the current turn; whatever belongs to an earlier one is outdated and must not be spoken.
    """

    def __init__(self) -> None:
        self.state: State = "idle"
        self.turn = 0
        self._is_answered = True

    def listen(self) -> bool:
        """Handle that the user starts to speak; returns whether that interrupts an answer."""
        interrupts = self.interrupt()
        self.state = "listening"
        return interrupts

    def interrupt(self) -> bool:
        """Handle Stop; returns whether there was an answer to stop."""
        interrupts = self.state in ("thinking", "speaking")
        self.turn += 1
        self._is_answered, self.state = True, "idle"
        return interrupts

    def recognise(self) -> None:
        """Handle that the user has stopped speaking: the words are being recognised."""
        self.state = "thinking"

    def nothing_heard(self) -> None:
        """Handle that no words were recognised."""
        self.state = "idle"

    def ask(self, turn: int | None = None) -> bool:
        """Handle that a question is asked.

        Args:
            turn: the turn in which it was spoken; None for a typed one, which begins a turn.

        Returns:
            Whether it may be answered: not if the user has spoken or pressed Stop since.
        """
        if turn is not None and turn != self.turn:
            return False
        if turn is None:
            self.turn += 1
        self._is_answered, self.state = False, "thinking"
        return True

    def speak(self, turn: int) -> bool:
        """Handle a sentence of an answer; returns whether it may be spoken."""
        if turn != self.turn or self.state == "listening":
            return False
        self.state = "speaking"
        return True

    def answered(self, turn: int) -> None:
        """Handle the end of an answer, of which sentences may still be spoken."""
        if turn != self.turn:
            return
        self._is_answered = True
        if self.state == "thinking":  # nothing of it was to be spoken
            self.state = "idle"

    def silent(self) -> None:
        """Handle that every sentence so far has been spoken; more of them may come."""
        if self.state == "speaking":
            self.state = "idle" if self._is_answered else "thinking"
