"""The one engine of the server, shared by all visitors and freed when another model takes its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from omnilmm.engine.events import Engine

Make = Callable[[str], Engine]


@dataclass
class Shared:
    """What the server was started with.

    Attributes:
        make: gives the engine of a model by its name, loading it in the background.
        model: which one answers now.
    """

    make: Make | None = None
    model: str = ""


SHARED = Shared()


def serve(make: Make, model: str) -> Engine:
    """Say how engines are made, and which model to begin with; begins loading it."""
    stop()
    SHARED.make, SHARED.model = make, model
    return engine()


def switch(model: str) -> None:
    """From now on another model answers; the one before is let go."""
    SHARED.model = model
    engine()


def stop() -> None:
    """Let the engine go, and a download that is under way."""
    _engine.clear()


def engine() -> Engine:
    """The engine that answers now."""
    return _engine(SHARED.model)


def _release(engine: Engine) -> None:
    if stop := getattr(engine, "stop", None):  # one that is still being fetched
        stop()


@st.cache_resource(max_entries=1, on_release=_release, show_spinner=False)
def _engine(model: str) -> Engine:
    if SHARED.make is None:
        raise RuntimeError("No server has said how engines are made.")
    return SHARED.make(model)
