"""Short descriptions of a model for a picker and an offer: memory, availability and speed."""

from __future__ import annotations

from omnilmm.catalog import ModelCard
from omnilmm.engine.choosing import ListedModel
from omnilmm.ui.texts import Texts

# Per token of these models' tokenizers: English words of prose, Chinese characters.
WORDS_PER_TOKEN = {"en": 0.75, "zh": 1.5}


def title(entry: ListedModel, texts: Texts) -> str:
    """Return the first line in a picker: the name and the size."""
    short = size(entry.card)
    return f"{entry.card.title} · {short}" if short else entry.card.title


def facts(entry: ListedModel, texts: Texts) -> str:
    """Return the second line in a picker: whether and how it fits, download, speed; short enough for a phone.

    For a model on a server it is the server.
    """
    if entry.server:
        return texts.on_server.format(server=entry.server)
    sizes = [*entry.card.memory_gib.values(), *(one.memory_gib for one in entry.card.quantisations.values())]
    needs = min(sizes, default=None)
    if entry.fits:
        parts = [texts.fits_in.format(dtype=entry.fits)]
    else:
        parts = [texts.fits_unknown if needs is None else texts.fits_needs.format(size=f"{needs:g}")]
    if entry.tokens_per_s:
        parts.append(texts.words_per_s.format(count=words_per_s(entry.tokens_per_s, texts)))
    download = texts.download_short.format(size=f"{entry.card.download_gib:g}")
    return " · ".join([*parts, texts.here_short if entry.is_here else download])


def reason(entry: ListedModel, texts: Texts) -> str:
    """Return why a model is offered: "1.3 B, 2.4 GiB to download, about 9 words a second here"."""
    card = entry.card
    download = texts.download_size.format(size=f"{card.download_gib:g}")
    parts = [size(card), texts.here if entry.is_here else download]
    if entry.tokens_per_s:
        parts.append(texts.words_a_second.format(count=words_per_s(entry.tokens_per_s, texts)))
    return texts.comma.join(part for part in parts if part)


def words_per_s(tokens_per_s: float, texts: Texts) -> str:
    """Format a speed in words per second: "9", or "0.4" if it is slow."""
    words = tokens_per_s * WORDS_PER_TOKEN[texts.code]
    return f"{words:.0f}" if words >= 2 else f"{words:.1f}"


def size(card: ModelCard) -> str:
    """Return the number of parameters in short form; empty if it is unknown."""
    if card.parameters is None:
        return ""
    return f"{card.parameters / 1e9:.1f} B" if card.parameters >= 1e9 else f"{card.parameters / 1e6:.1f} M"
