"""Whether this program runs as a Hugging Face Space."""

from __future__ import annotations

import os


def on_space() -> bool:
    """Whether this is a Hugging Face Space."""
    return "SPACE_ID" in os.environ


def on_zero_gpu() -> bool:
    """Whether this is a Space that is lent a GPU for one answer at a time."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
