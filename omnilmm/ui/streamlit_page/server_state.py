"""What the server was started with, and all visitors share: the model, what they can choose from, how many may ask."""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.offer import Offer
from omnilmm.ui.upload import QUOTA_MIB


@dataclass
class ServerState:
    """See above.

    Attributes:
        provider: answers the questions, with whichever model.
        offer: what visitors can choose from; None where they cannot choose.
        max_answers: how many may be given and waited for at once; None for as many as come.
        had_visitors: whether anybody ever opened the page.
        quota_bytes: of one visitor's uploads together that were not sent yet.
    """

    provider: ModelProvider | None = None
    offer: Offer | None = None
    max_answers: int | None = None
    had_visitors: bool = False
    quota_bytes: int = QUOTA_MIB * 2**20


SERVER = ServerState()


def serve(provider: ModelProvider, offer: Offer | None = None, max_answers: int | None = None) -> None:
    """Say which model answers from now on, and what can be chosen instead."""
    SERVER.provider, SERVER.offer, SERVER.max_answers = provider, offer, max_answers


def provider() -> ModelProvider:
    """Of the model that answers."""
    if SERVER.provider is None:
        raise RuntimeError("No server has said which model answers.")
    return SERVER.provider


def state() -> tuple[int, bool]:
    """Of the model: the page is drawn anew when this is another one than before."""
    return provider().version, provider().is_changing


def stop() -> None:
    """The server ends: a download that is under way stops."""
    if SERVER.provider is not None:
        SERVER.provider.stop()
