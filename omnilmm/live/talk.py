"""One tab's spoken conversation: what it hears becomes questions, and answers are spoken.

    microphone ── chunks ──> Hearing ── utterance ──> Recogniser ── words ──> the page asks, with the camera's frame
    the page's answer, as it grows ──> Sentences ──> voice ──> loudspeaker

The page asks by its ordinary way, so history, settings and limits are those of a typed question. Chunks are handled by
a thread of their own; if it falls behind, the oldest are dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from omnilmm.conversation import Conversation, Picture, Video
from omnilmm.engine.events import Engine
from omnilmm.live import speech
from omnilmm.live.described import Described, Watcher
from omnilmm.live.hearing import BYTES_PER_CHUNK, CHUNK, RATE, STARTS, Detector, Hearing, Sound, Started, Utterance
from omnilmm.live.recognition import Recogniser
from omnilmm.live.turns import Turns
from omnilmm.sentences import Language

LATEST_S = 10.0  # sound that could not be handled for so long is dropped
MOST_COMMANDS = 100  # that wait behind a recognition; nobody presses a key so often
POLL_S = 0.05  # how often a growing answer is looked at

Shown = Picture | Video

log = logging.getLogger(__name__)


class Command(BaseModel):
    """What a tab's script sends.

    Attributes:
        type: "press" and "release" of the key; "hands_free" with `on`; "mute" with `on`: answers are not spoken;
            "silent": every sentence sent so far was spoken; "stop"; "language" with `language`; "voice" with `on`
            and `language`: whether the browser has a voice of its own for it; "describe" with `on`: answer from
            descriptions; "frame" with `path`: an uploaded frame to describe.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["press", "release", "hands_free", "mute", "silent", "stop", "language", "voice", "describe", "frame"]
    on: Annotated[bool, Field(strict=True)] = False
    language: Language = "en"
    path: Annotated[str, Field(max_length=1000)] = ""


@dataclass(eq=False)
class Parts:
    """What all tabs share.

    Attributes:
        recogniser: None if nothing can be recognised (yet), so that questions are typed.
        new_detector: returns a voice detector for one microphone, or None.
        voice: "auto": the browser's own voices, else espeak-ng; "browser", "espeak-ng", or "none".
        text: a text model that can answer from descriptions of what the camera shows; None without one.
        is_loading: whether the recogniser is still being loaded.
        browser_hears: whether the browser's own recognition is used, which then asks as if the words were typed.
    """

    recogniser: Recogniser | None
    new_detector: Callable[[], Detector | None]
    voice: Literal["auto", "browser", "espeak-ng", "none"] = "auto"
    text: Engine | None = None
    is_loading: bool = False
    browser_hears: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer while it is generated.

    Attributes:
        text: returns the answer so far.
        done: set once it is complete.
        stop: stops it.
    """

    text: Callable[[], str]
    done: threading.Event
    stop: Callable[[], None]


class Talk:
    """The spoken conversation of one tab.

    Args:
        parts: what all tabs share.
        send: sends a JSON object, or the sound of the sentence sent before. Any thread calls it, also while this
            object is locked: it must neither wait nor call back.
        sees: the model that sees, for descriptions.

    Attributes:
        described: answers from descriptions; None while the model that sees answers.
    """

    def __init__(
        self, parts: Parts, send: Callable[[dict[str, Any] | bytes], None], sees: Engine | None = None
    ) -> None:
        self._parts, self._send = parts, send
        self._language: Language = "en"
        self._is_muted = False
        self._browser_speaks: set[Language] = set()  # languages for which the browser has a voice of its own
        self._hearing = Hearing()
        self._sees = sees
        self.described: Described | None = None
        self._asked_about: Shown | None = None  # the frame of the last question that had one
        self._turns = Turns()
        self._lock = threading.Lock()  # of the turns, and of the answer that is running
        self._answer: Answer | None = None
        self._inbox = _Inbox()
        self.get_ready()
        threading.Thread(target=self._listen, name="listening", daemon=True).start()

    def get_ready(self) -> None:
        """Take the voice detector into use; called again once the recogniser is loaded."""
        if self._parts.recogniser is not None:
            self._hearing = Hearing(self._parts.new_detector())

    @property
    def abilities(self) -> dict[str, Any]:
        """What this conversation can do, for the page's script."""
        return {
            "type": "ready",
            "hears": self._parts.recogniser is not None,
            "loading": self._parts.is_loading,
            "browser_hears": self._parts.browser_hears,
            "hands_free": self._hearing.can_be_hands_free,
            "voice": self._parts.voice,
            "describes": self._parts.text is not None and self._sees is not None,
        }

    # --- from the tab -------------------------------------------------------------------------------------------------

    def receive_sound(self, content: bytes) -> None:
        """Handle a chunk of the microphone."""
        if len(content) > BYTES_PER_CHUNK or self._parts.recogniser is None:
            return
        self._inbox.put(content)

    def receive(self, command: Command) -> None:
        """Handle a command; interruptions take effect at once, whatever is still being recognised."""
        match command.type:
            case "press":
                self._interrupt(listens=True)
                self._inbox.put(command)
            case "release" | "hands_free":
                self._inbox.put(command)
            case "stop":
                self._inbox.drop_sound()
                self._inbox.put(command)
                self._interrupt(listens=False)
            case "mute":
                self._is_muted = command.on
            case "silent":
                with self._lock:
                    self._turns.silent()
                self._tell_state()
            case "language":
                self._language = command.language
            case "describe":
                self._describe(command.on)
            case "voice":
                (self._browser_speaks.add if command.on else self._browser_speaks.discard)(command.language)

    def close(self) -> None:
        """Handle a closed tab or view: stop the answer and the thread."""
        self._interrupt(listens=False)
        self._describe(False)
        self._inbox.put(None)

    def add_frame(self, picture: Picture) -> None:
        """Take a frame of the camera, to be described."""
        if described := self.described:
            described.watcher.add_frame(picture)

    def new_to(self, conversation: Conversation, frames: list[Shown], *, is_same: bool) -> list[Shown]:
        """Return the frames that a question needs: none if the newest picture of its conversation shows the same.

        Args:
            conversation: the conversation before the question.
            frames: the camera's frame, or none.
            is_same: whether it shows what the frame of the question before showed.
        """
        newest = [part for message in conversation.messages for part in message.shown][-1:]
        if frames and is_same and newest and newest[0] is self._asked_about:
            return []
        if frames:
            self._asked_about = frames[0]
        return frames

    # --- from the page ------------------------------------------------------------------------------------------------

    def speak(self, answer: Answer, turn: int | None = None) -> None:
        """Speak an answer while it is generated; returns at once.

        Args:
            answer: the answer; it is stopped if the user has spoken again or pressed Stop since the question.
            turn: the turn in which the question was heard; None if it was typed.
        """
        with self._lock:
            is_wanted = self._turns.ask(turn)
            if is_wanted:
                turn, self._answer = self._turns.turn, answer
        if not is_wanted or turn is None:
            answer.stop()
            return
        self._tell_state()
        threading.Thread(target=self._speak, args=(answer, turn), name="speaking", daemon=True).start()

    def give_up(self) -> None:
        """Handle that a question was refused; the page says why."""
        with self._lock:
            self._turns.nothing_heard()
        self._tell_state()

    # --- threads ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while (heard := self._inbox.get()) is not None:
            try:
                self._handle(heard)
            except Exception:
                log.exception("Listening failed")
                with self._lock:
                    self._turns.nothing_heard()
                self._send({"type": "failed"})
                self._tell_state()

    def _handle(self, heard: bytes | Command) -> None:
        found: Started | Utterance | None = None
        if isinstance(heard, bytes):
            found = self._hearing.feed(heard)
        elif heard.type == "press":
            self._hearing.press()
        elif heard.type == "release":
            found = self._hearing.release()
        elif heard.type == "stop":
            self._hearing.drop()
        else:
            self._hearing.set_hands_free(heard.on)
        if isinstance(found, Started) and not self._inbox.has_stop:  # else the user said it before pressing Stop
            ago_s = (STARTS + self._inbox.chunks) * CHUNK / RATE  # the script takes the camera's frame of that moment
            self._send({"type": "started", "seconds_ago": ago_s})
            self._interrupt(listens=True)
        elif isinstance(found, Utterance):
            self._recognise(found.sound)

    def _recognise(self, sound: Sound | None) -> None:
        began_s, words = time.monotonic(), ""
        with self._lock:
            turn = self._turns.turn
            self._turns.recognise()
        self._tell_state()
        if sound is not None and self._parts.recogniser is not None:
            words = self._parts.recogniser.words(sound, self._language)
        with self._lock:
            if turn != self._turns.turn:  # interrupted meanwhile: the user speaks again, or pressed Stop
                return
            if not words:
                self._turns.nothing_heard()
        if words:
            took_s = round(time.monotonic() - began_s, 3)
            self._send({"type": "heard", "text": words, "seconds": took_s, "turn": turn})
        else:
            self._send({"type": "nothing_heard"})
            self._tell_state()

    def _speak(self, answer: Answer, turn: int) -> None:
        asked_s, has_begun, sentences = time.monotonic(), False, speech.Sentences()
        while True:
            is_complete = answer.done.wait(POLL_S)
            text = answer.text()
            if text and not has_begun:
                has_begun = True
                self._send({"type": "first_word", "seconds": round(time.monotonic() - asked_s, 3)})
            for sentence in sentences.of(text, is_complete=is_complete):
                if not self._say(sentence, turn):
                    return
            if is_complete:
                break
        with self._lock:
            self._turns.answered(turn)
            if self._answer is answer:
                self._answer = None
        self._tell_state()

    def _say(self, sentence: str, turn: int) -> bool:
        """Send a sentence to be shown and spoken; returns False once its turn is over."""
        is_spoken = not self._is_muted and self._parts.voice != "none"
        language = speech.language_of(sentence, self._language)
        has_browser = self._parts.voice == "auto" and language in self._browser_speaks
        by_server = is_spoken and self._parts.voice != "browser" and not has_browser
        sound = speech.synthesised(sentence, language) if by_server else None
        by_browser = is_spoken and not by_server
        with self._lock:
            if turn != self._turns.turn:
                return False
            if (sound or by_browser) and not self._turns.speak(turn):
                return False
            self._send({"type": "say", "text": sentence, "sound": sound is not None, "browser": by_browser})
            if sound:
                self._send(sound)
        self._tell_state()
        return True

    def _describe(self, is_on: bool) -> None:
        described, self.described = self.described, None
        if described is not None:
            described.watcher.close()
        if is_on and self._parts.text is not None and self._sees is not None:
            self.described = Described(self._parts.text, Watcher(self._sees, self._language))

    def _interrupt(self, *, listens: bool) -> None:
        with self._lock:
            self._turns.listen() if listens else self._turns.interrupt()
            answer, self._answer = self._answer, None
        if answer is not None:
            answer.stop()
        self._send({"type": "hush"})
        self._tell_state()

    def _tell_state(self) -> None:
        with self._lock:  # of two threads that tell it, the last one tells the state of now
            self._send({"type": "state", "state": self._turns.state})


class _Inbox:
    """What a tab has sent and is not handled yet, in order; the oldest sound is dropped where there is too much."""

    def __init__(self) -> None:
        self._items: deque[bytes | Command | None] = deque()
        self.chunks = 0  # among them
        self._new = threading.Condition()
        self.dropped = 0

    def put(self, item: bytes | Command | None) -> None:
        with self._new:
            if isinstance(item, Command) and len(self._items) - self.chunks >= MOST_COMMANDS:
                return
            self._items.append(item)
            self.chunks += isinstance(item, bytes)
            if self.chunks * CHUNK / RATE > LATEST_S:
                self._items.remove(next(kept for kept in self._items if isinstance(kept, bytes)))
                self.chunks -= 1
                self.dropped += 1
            self._new.notify()

    def drop_sound(self) -> None:
        """Forget the sound that nobody has heard yet."""
        with self._new:
            self._items = deque(item for item in self._items if not isinstance(item, bytes))
            self.chunks = 0

    @property
    def has_stop(self) -> bool:
        """Whether the user has pressed Stop since the item that was taken last."""
        with self._new:
            return any(isinstance(item, Command) and item.type == "stop" for item in self._items)

    def get(self) -> bytes | Command | None:
        """Wait for the oldest item."""
        with self._new:
            self._new.wait_for(lambda: self._items)
            item = self._items.popleft()
            self.chunks -= isinstance(item, bytes)
            return item
