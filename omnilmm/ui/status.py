"""What everybody is told about the model: which one answers, and what becomes of another one that was chosen."""

from __future__ import annotations

from omnilmm.engine.change import Change
from omnilmm.engine.provider import FINISH_S, ModelProvider
from omnilmm.ui.texts import Texts, sizes


def status(provider: ModelProvider, texts: Texts) -> tuple[str, str]:
    """The line about the model of now, and the line about a change of models; one of them may be empty."""
    change = provider.news
    if provider.is_ready:
        return texts.model_line(provider), change_line(change, texts)
    if change is not None and change.before is not None:
        return "", change_line(change, texts)
    return texts.starting_line(provider.card, provider.progress, provider.failure), ""


def change_line(change: Change | None, texts: Texts) -> str:
    """How far a change of models is, or how it ended; empty for none, and for the first model of all."""
    if change is None or change.before is None:
        return ""
    done, total = change.progress
    return texts.changes[change.stage].format(
        model=change.card.title,
        before=change.before.title,
        reason=texts.translate(change.failure) if change.failure else "",
        seconds=f"{FINISH_S:.0f}",
        **sizes(done, total),
    )
