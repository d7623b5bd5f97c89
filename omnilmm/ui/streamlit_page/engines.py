"""What the server was started with, and all visitors share: the model, what they can choose from, how many may ask."""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.offer import Offer


@dataclass
class Shared:
    """See above.

    Attributes:
        provider: answers the questions, with whichever model.
        offer: what visitors can choose from; None where they cannot choose.
        most_answers: how many may be given and waited for at once; None for as many as come.
        were_any: whether anybody ever opened the page.
    """

    provider: ModelProvider | None = None
    offer: Offer | None = None
    most_answers: int | None = None
    were_any: bool = False


SHARED = Shared()


def serve(provider: ModelProvider, offer: Offer | None = None, most_answers: int | None = None) -> None:
    """Say which model answers from now on, and what can be chosen instead."""
    SHARED.provider, SHARED.offer, SHARED.most_answers = provider, offer, most_answers


def provider() -> ModelProvider:
    """Of the model that answers."""
    if SHARED.provider is None:
        raise RuntimeError("No server has said which model answers.")
    return SHARED.provider


def state() -> tuple[int, bool]:
    """Of the model: the page is drawn anew when this is another one than before."""
    return provider().version, provider().is_changing


def stop() -> None:
    """The server ends: a download that is under way stops."""
    if SHARED.provider is not None:
        SHARED.provider.stop()
