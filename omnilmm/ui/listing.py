"""The known models as a table for the terminal: requirements, abilities, whether they fit and are on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from omnilmm.catalog import ModelCard
from omnilmm.engine.choosing import ListedModel, best
from omnilmm.engine.servers import ServedModel
from omnilmm.ui import model_lines
from omnilmm.ui.texts import ENGLISH

LANGUAGES_SHOWN = 3


def write_listing(models: Sequence[ListedModel], free_gib: float | None, device: str, out: TextIO) -> None:
    """Write the table, then the licences and the makers' statements about generated content."""
    from rich.console import Console
    from rich.table import Table

    free = f", {free_gib:.1f} GiB free" if free_gib is not None else ""
    table = Table(title=f"Models ({device}{free})", title_justify="left", pad_edge=False)
    for column in ("--model", "size", "memory in GiB", "languages", "can do", "fits here", "words/s", "on disk"):
        table.add_column(column, overflow="fold", no_wrap=column == "can do")
    for model in models:
        table.add_row(*_row(model))
    width = None if out.isatty() else 170
    console = Console(file=out, width=width, highlight=False)
    console.print(table)
    if offered := best(models):
        reason = model_lines.reason(offered, ENGLISH)
        console.print(f"Best for this machine: --model {offered.card.name} ({reason})\n", soft_wrap=True)
    for model in models:
        card = model.card
        console.print(f"{card.name}: {card.licence}. {card.licence_url}", soft_wrap=True)
    statements = {str(model.card.statement) for model in models if str(model.card.statement)}
    for statement in statements:
        console.print(f"\nWhat the makers of the MiniCPM-V and OmniLMM models say: {statement}", soft_wrap=True)


def write_served(models: Iterable[ServedModel], out: TextIO) -> None:
    """Write the models of servers, one a line: name, server, and what the server says about the model."""
    for served in models:
        there = served.model
        facts = [f"{there.endpoint.shown} ({there.dialect.title})"]
        facts += [f"{there.context} tokens of context"] if there.context else []
        facts += [] if there.pictures is None else ["pictures" if there.pictures else "text only"]
        out.write(f"{served.name}: {', '.join(facts)}\n")


def _row(model: ListedModel) -> tuple[str, ...]:
    card = model.card
    more = len(card.languages) - LANGUAGES_SHOWN
    languages = ", ".join(card.languages[:LANGUAGES_SHOWN]) + (f" +{more}" if more > 0 else "")
    fits = f"yes, in {model.fits}" if model.fits else "no" if card.memory_gib or card.quantisations else "?"
    speed = f"~{model_lines.words_per_s(model.tokens_per_s, ENGLISH)}" if model.tokens_per_s else ""
    is_here = "yes" if model.is_here else "no"
    return (
        card.name,
        model_lines.size(card) or "?",
        memory(card),
        languages,
        ", ".join(abilities(card)),
        fits,
        speed,
        is_here,
    )


def memory(card: ModelCard) -> str:
    """Return the memory that a model takes in each dtype, grouping dtypes that take the same."""
    if card.quantisations:
        found = list(card.quantisations.items())
        return " · ".join(f"{name} {one.memory_gib:g}" for name, one in (found[0], found[-1]))
    by_size: dict[float, list[str]] = {}
    for dtype, gib in card.memory_gib.items():
        by_size.setdefault(gib, []).append(dtype)
    return " · ".join(f"{'/'.join(dtypes)} {gib:g}" for gib, dtypes in by_size.items()) or "known once fetched"


def abilities(card: ModelCard) -> list[str]:
    """Return what a model can do, in words."""
    pictures = "several pictures" if card.several_pictures else "one picture"
    named = {pictures: True, "system prompt": card.system_prompt, "boxes": card.boxes}
    return [name for name, can in named.items() if can]
