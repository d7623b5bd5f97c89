"""State of the server that all visitors share: the model, the models on offer, and the limits."""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.offer import Offer
from omnilmm.ui.upload import QUOTA_MIB


@dataclass
class ServerState:
    """State shared by all visitors.

    Attributes:
        provider: provides the model that answers.
        offer: the models that visitors can choose from; None if they cannot choose.
        max_answers: how many answers may run or wait at once; None for no limit.
        had_visitors: whether anybody ever opened the page.
        quota_bytes: limit for one visitor's uploads together that were not sent yet.
        live_url: address of a Gradio page with a live view; None if there is none to link to.
    """

    provider: ModelProvider | None = None
    offer: Offer | None = None
    max_answers: int | None = None
    had_visitors: bool = False
    quota_bytes: int = QUOTA_MIB * 2**20
    live_url: str | None = None


SERVER = ServerState()


def serve(provider: ModelProvider, offer: Offer | None = None, max_answers: int | None = None) -> None:
    """Set which model answers from now on, and what can be chosen instead."""
    SERVER.provider, SERVER.offer, SERVER.max_answers = provider, offer, max_answers


def provider() -> ModelProvider:
    """Return the provider of the model that answers."""
    if SERVER.provider is None:
        raise RuntimeError("The server has set no model provider.")
    return SERVER.provider


def state() -> tuple[int, bool]:
    """Return the state of the model; the page is redrawn when it changes."""
    return provider().version, provider().is_changing


def stop() -> None:
    """Stop a running download when the server ends."""
    if SERVER.provider is not None:
        SERVER.provider.stop()
