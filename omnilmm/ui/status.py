"""The status of the model for all visitors: which one answers, and the progress of a change to another one."""

from __future__ import annotations

from omnilmm.engine.change import Change
from omnilmm.engine.provider import FINISH_S, ModelProvider
from omnilmm.ui.texts import Texts, sizes


def status(provider: ModelProvider, texts: Texts) -> tuple[str, str]:
    """Return the line about the current model, and the line about a change of models; one of them may be empty."""
    change = provider.news
    if provider.is_ready:
        return texts.model_line(provider), change_line(change, texts)
    if change is not None and change.before is not None:
        return "", change_line(change, texts)
    return texts.starting_line(provider.card, provider.progress, provider.failure), ""


def change_line(change: Change | None, texts: Texts) -> str:
    """Return the progress or the outcome of a change of models; empty for none, and for the very first model."""
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
