"""The one engine of the server, shared by all visitors and freed when another model takes its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from omnilmm.engine.choosing import Listed
from omnilmm.engine.events import Engine
from omnilmm.engine.starting import StartingEngine

Make = Callable[[str], Engine]
Choices = Callable[[], list[Listed]]
CHOICES_S = 30  # what is free, and what is on the disk, changes


@dataclass
class Shared:
    """What the server was started with.

    Attributes:
        make: gives the engine of a model by its name, loading it in the background.
        model: which one answers now.
        choices: gives the models that can be switched to; None where visitors cannot choose.
        most_answers: how many may be given and waited for at once; None for as many as come.
    """

    make: Make | None = None
    model: str = ""
    choices: Choices | None = None
    most_answers: int | None = None


SHARED = Shared()


def serve(make: Make, model: str, offer: Choices | None = None, most_answers: int | None = None) -> Engine:
    """Say how engines are made, and which model to begin with; begins loading it."""
    stop()
    choices.clear()
    SHARED.make, SHARED.model, SHARED.choices, SHARED.most_answers = make, model, offer, most_answers
    return engine()


def is_settled(engine: Engine) -> bool:
    """Whether an engine is there, or is known not to come."""
    return not isinstance(engine, StartingEngine) or engine.done.is_set()


def switch(model: str) -> None:
    """From now on another model answers everybody; the one before is let go first."""
    stop()
    choices.clear()
    SHARED.model = model
    engine()


def stop() -> None:
    """Let the engine go, and a download that is under way."""
    _engine.clear()


@st.cache_resource(ttl=CHOICES_S, show_spinner=False)
def choices() -> list[Listed]:
    """The models that can be switched to; none where visitors cannot choose."""
    return SHARED.choices() if SHARED.choices else []


def engine() -> Engine:
    """The engine that answers now."""
    return _engine(SHARED.model)


def _release(engine: Engine) -> None:
    if release := getattr(engine, "release", None):  # a download under way, and the memory
        release()


@st.cache_resource(max_entries=1, on_release=_release, show_spinner=False)
def _engine(model: str) -> Engine:
    if SHARED.make is None:
        raise RuntimeError("No server has said how engines are made.")
    return SHARED.make(model)
