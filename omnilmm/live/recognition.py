"""Speech recognition, on this machine."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from omnilmm.errors import MissingPackageError, ModelNotFoundError
from omnilmm.live.hearing import RATE, Sound

POCKETSPHINX = "pocketsphinx"
NONE = "none"
TASK = "automatic-speech-recognition"
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # no weights that could run code


class Recogniser(Protocol):
    """Recognises speech. Several threads may call it."""

    name: str

    def words(self, sound: Sound, language: str) -> str:
        """Return the recognised words; empty if there are none.

        Args:
            sound: samples [T], 16,000 per second.
            language: "en" or "zh", if the model takes a language.
        """


def load_recogniser(name: str, *, offline: bool = False) -> Recogniser | None:
    """Load a recogniser.

    Args:
        name: the hub id or folder of a model that transformers has a class for (Whisper, Moonshine …); `pocketsphinx`,
            or `pocketsphinx:FILE` with a JSGF grammar (English); `none` for no recogniser.
        offline: use what is on this disk.

    Raises:
        MissingPackageError: pocketsphinx is not installed.
        ModelNotFoundError: There is no such model, or it cannot be loaded; the message has the reason.
    """
    kind, _, grammar = name.partition(":")
    if kind == NONE:
        return None
    if kind == POCKETSPHINX:
        if find_spec(POCKETSPHINX) is None:
            raise MissingPackageError("recogniser_missing", package=POCKETSPHINX)
        return _PocketSphinx(grammar)
    return _Transformers(name, offline=offline)


class _PocketSphinx:
    """CMU's recogniser, which is small and quick; without a grammar it often mishears."""

    def __init__(self, grammar: str) -> None:
        import pocketsphinx

        if grammar and not Path(grammar).is_file():
            raise ModelNotFoundError("no_grammar", file=grammar)
        of = {"jsgf": grammar} if grammar else {}
        self.name = POCKETSPHINX
        self._decoder = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL", **of)
        self._lock = threading.Lock()

    def words(self, sound: Sound, language: str) -> str:
        with self._lock:
            self._decoder.start_utt()
            self._decoder.process_raw((sound * 32767).astype("<i2").tobytes(), full_utt=True)
            self._decoder.end_utt()
            found = self._decoder.hyp()
        return found.hypstr.strip() if found else ""


class _Transformers:
    """A speech recognition model of transformers, on the CPU: the accelerator belongs to the model that answers."""

    def __init__(self, name: str, *, offline: bool) -> None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
        from transformers import pipeline

        self.name = name
        failures = (
            OSError,
            ValueError,
            ImportError,
            KeyError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
        try:
            is_here = Path(name).is_dir()
            folder = name if is_here else snapshot_download(name, local_files_only=offline, allow_patterns=list(FILES))
            self._recognise: Any = pipeline(TASK, model=folder, device="cpu", trust_remote_code=False)
        except failures as error:
            raise ModelNotFoundError("speech_model_unusable", name=name, reason=str(error).splitlines()[0]) from error
        languages = getattr(self._recognise.model.generation_config, "lang_to_id", None)
        self._takes_language = bool(languages)
        self._lock = threading.Lock()

    def words(self, sound: Sound, language: str) -> str:
        how = {"generate_kwargs": {"language": language, "task": "transcribe"}} if self._takes_language else {}
        with self._lock:
            found = self._recognise({"raw": np.ascontiguousarray(sound), "sampling_rate": RATE}, **how)
        return str(found["text"]).strip()
