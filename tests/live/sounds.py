"""Sounds of a microphone. The questions were spoken by flite's voice `slt`, and are given as 16-bit mono at 16 kHz."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnilmm.live.hearing import CHUNK, RATE

FOLDER = Path(__file__).parent / "sounds"
GRAMMAR = "#JSGF V1.0;\ngrammar questions;\npublic <q> = what color is the circle | what shape is it | {more};\n"
WORDS = {
    "what_color": "what color is the circle",
    "what_shape": "what shape is it",
    "everything": "tell me everything about it",
}

Samples = NDArray[np.int16]


def spoken(name: str) -> Samples:
    with wave.open(str(FOLDER / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.int16)


def noise(seconds: float) -> Samples:
    """Steady noise, as of a fan, and a few clicks."""
    samples = np.random.default_rng(7).normal(0, 300, int(seconds * RATE)).astype(np.int16)
    samples[:: RATE // 2] = 20_000
    return samples


def chunks(*parts: Samples) -> list[bytes]:
    whole = np.concatenate(parts)
    return [whole[at : at + CHUNK].astype("<i2").tobytes() for at in range(0, len(whole) - CHUNK + 1, CHUNK)]


def grammar(folder: Path) -> Path:
    path = folder / "questions.jsgf"
    path.write_text(GRAMMAR.format(more=WORDS["everything"]), encoding="utf-8")
    return path
