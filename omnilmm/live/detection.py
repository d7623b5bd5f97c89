"""Voice activity detection by Silero's model (MIT), which is part of the package `silero-vad`."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import numpy as np
import torch

from omnilmm.live.hearing import CHUNK, RATE, Detector, Sound

_LOADING = threading.Lock()


def detector() -> Detector | None:
    """Return a new detector; None without the package."""
    if find_spec("silero_vad") is None:
        return None
    model = _load()

    def probability(sound: Sound) -> float:
        # Without the optimiser, which is no faster here and would take a second for the first chunks.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return float(model(torch.from_numpy(sound), RATE))

    probability(np.zeros(CHUNK, np.float32))  # the first one takes much longer
    model.reset_states()  # type: ignore[operator]
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
