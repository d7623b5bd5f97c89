"""Backends run a loaded model with its processor step by step; `backend_for` selects the one for a model."""

from __future__ import annotations

from typing import Any

from omnilmm.engine.backends.base import Backend
from omnilmm.engine.backends.native import NativeBackend
from omnilmm.engine.backends.transformers_backend import TransformersBackend
from omnilmm.engine.caches.features import FEATURE_BYTES
from omnilmm.engine.caches.prefix import PREFIX_BYTES
from omnilmm.engine.scheduler import AT_ONCE
from omnilmm.models.picture_model import PictureModel


def backend_for(
    model: Any,
    processor: Any,
    feature_bytes: int = FEATURE_BYTES,
    prefix_bytes: int = PREFIX_BYTES,
    at_once: int = AT_ONCE,
) -> Backend:
    """Return the backend for a loaded model.

    Raises:
        CheckpointError: The checkpoint cannot hold a conversation; the message says why.
    """
    if isinstance(model, PictureModel):
        return NativeBackend(model, processor, feature_bytes, prefix_bytes, at_once)
    return TransformersBackend(model, processor, prefix_bytes)
