"""Detect whether this program runs as a Hugging Face Space."""

from __future__ import annotations

import os


def on_space() -> bool:
    """Return whether this program runs on a Hugging Face Space."""
    return "SPACE_ID" in os.environ


def on_zero_gpu() -> bool:
    """Return whether this is a ZeroGPU Space, where a GPU is allocated for one answer at a time."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
