"""Cuts the sound of a microphone into utterances: while a key is held, or hands-free by voice activity detection.

Sound is mono, 16,000 samples per second, in chunks of 512 samples (32 ms), the size that Silero's detector takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
CHUNK = 512
BYTES_PER_CHUNK = 2 * CHUNK
MOST_S = 30.0  # length of an utterance, which Whisper takes in one piece
MOST_CHUNKS = int(MOST_S * RATE) // CHUNK  # not one sample more
LEAST_S = 0.3  # anything shorter is a click
BEFORE = 10  # chunks (320 ms) from before the detector noticed the voice
STARTS, ENDS = 3, 11  # chunks in a row with a voice, and without: 96 ms and 352 ms
VOICE, NO_VOICE = 0.5, 0.35  # probabilities, as Silero's own iterator uses them

Sound = NDArray[np.float32]  # samples in -1 … 1
Detector = Callable[[Sound], float]  # probability of a voice in a chunk; it has a state, so each microphone has its own


@dataclass(frozen=True)
class Started:
    """A voice was noticed; it began `STARTS` chunks before."""


@dataclass(frozen=True)
class Utterance:
    """What was said, or None if it was too short to be words, or no voice."""

    sound: Sound | None


class Hearing:
    """The sound of one microphone.

    Args:
        detector: detects voices; None if there is none, so that only push-to-talk works.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector
        self._is_held = self._is_hands_free = False
        self._is_speaking = False
        self._chunks: deque[Sound] = deque()
        self._run = 0  # chunks in a row that speak against the current state
        self._has_voice = False  # while a key is held

    @property
    def can_be_hands_free(self) -> bool:
        """Whether there is a detector."""
        return self._detector is not None

    def set_hands_free(self, is_on: bool) -> None:
        """Switch between push-to-talk and hands-free; drops what was heard."""
        self._is_hands_free = is_on and self.can_be_hands_free
        self._reset()

    def press(self) -> None:
        """Start an utterance by hand."""
        self._reset()
        self._is_held = True
        self._has_voice = self._detector is None

    def release(self) -> Utterance | None:
        """End an utterance that was started by hand; None if there is none."""
        return self._end() if self._is_held else None

    def drop(self) -> None:
        """Drop the utterance that is being heard."""
        self._reset()

    def feed(self, content: bytes) -> Started | Utterance | None:
        """Handle a chunk.

        Args:
            content: little-endian 16-bit samples, at most one chunk.
        """
        samples = np.frombuffer(content[: len(content) // 2 * 2], "<i2")
        sound = samples.astype(np.float32) / np.float32(32768)
        if self._is_held:
            self._chunks.append(sound)
            if not self._has_voice and self._detector is not None and len(sound) == CHUNK:
                self._has_voice = self._detector(sound) >= NO_VOICE
            return self._end() if self._is_full else None
        if not self._is_hands_free or self._detector is None or len(sound) != CHUNK:
            return None
        self._chunks.append(sound)
        probability = self._detector(sound)
        if self._is_speaking:
            self._run = self._run + 1 if probability < NO_VOICE else 0
            return self._end() if self._run >= ENDS or self._is_full else None
        while len(self._chunks) > BEFORE + STARTS:
            self._chunks.popleft()
        self._run = self._run + 1 if probability >= VOICE else 0
        if self._run < STARTS:
            return None
        self._is_speaking, self._run = True, 0
        return Started()

    @property
    def _is_full(self) -> bool:
        return len(self._chunks) >= MOST_CHUNKS

    def _end(self) -> Utterance:
        """Return the utterance; Whisper finds words in noise, too, so that one without a voice has no sound."""
        sound = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)
        is_speech = len(sound) >= LEAST_S * RATE and (self._is_speaking or self._has_voice)
        self._reset()
        return Utterance(sound if is_speech else None)

    def _reset(self) -> None:
        self._chunks.clear()
        self._is_held = self._is_speaking = self._has_voice = False
        self._run = 0
