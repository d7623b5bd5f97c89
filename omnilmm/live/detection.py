"""Voice activity detection by Silero's model (MIT), which is part of the package `silero-vad`."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import torch

from omnilmm.live.hearing import RATE, Detector, Sound

_LOADING = threading.Lock()


def detector() -> Detector | None:
    """Return a new detector; None without the package."""
    if find_spec("silero_vad") is None:
        return None
    model = _load()

    def probability(sound: Sound) -> float:
        with torch.inference_mode():
            return float(model(torch.from_numpy(sound), RATE))

    return probability


def _load() -> torch.nn.Module:
    """Load the model; importing the package sets torch to one thread, which would slow down the model that answers."""
    with _LOADING:
        threads = torch.get_num_threads()
        try:
            from silero_vad import load_silero_vad

            model: torch.nn.Module = load_silero_vad()
        finally:
            torch.set_num_threads(threads)
    return model
