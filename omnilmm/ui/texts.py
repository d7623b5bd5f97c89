"""Everything the pages say, in English, in one place."""

from __future__ import annotations

from omnilmm.catalog import ModelCard
from omnilmm.engine.events import Engine, Finished, Progress
from omnilmm.engine.options import Mode
from omnilmm.hardware import QUANTISED

TITLE = "OmniLMM Chat"
EMPTY_CHAT = "### Talk about a picture\n\nAdd one below and ask about it, or click a sample."
QUESTION = "Ask about a picture"
QUESTION_PLACEHOLDER = "Ask, or drop a picture here"
SETTINGS = "Settings"
CHANCE = "a new one each time"
ABOUT = "About this model"
REGENERATE = "Regenerate"
CLEAR = "Clear"
STOP = "Stop"
DECODE_TYPE = "Decode Type"
MODES: dict[Mode, str] = {"sampling": "Sampling", "beam": "Beam Search"}

LABELS = {
    "temperature": "Temperature",
    "top_p": "Top P",
    "top_k": "Top K",
    "repetition_penalty": "Repetition Penalty",
    "seed": "Seed",
    "beams": "Num Beams",
    "length_penalty": "Length Penalty",
    "max_new_tokens": "Max New Tokens",
}
HELP = {
    "temperature": "Low: likeliest words. High: more variety.",
    "top_p": "Only the likeliest words up to this share.",
    "top_k": "Only this many of the likeliest words.",
    "repetition_penalty": "Above 1: repeat less.",
    "seed": "The same seed gives the same answer.",
    "beams": "How many candidates are followed.",
    "length_penalty": "Above 0: longer answers. Below: shorter.",
    "max_new_tokens": "The answer stops at this length.",
}

THINKING = "thinking …"
STOPPED = "stopped"
LENGTH = "stopped at the length limit"
SILENT = "the model gave no words"
SET_ASIDE = "about the new picture alone: this model sees one at a time"
SLOWER = "saves memory, may be slower"
PREVIEW = "preview: the best answer so far, it may still change"

NOTHING_TO_REGENERATE = "There is no answer to regenerate yet: ask something first."
WITHDRAWN = "Stopped before the first word. Your question is back in the box."
FAILED = "The model failed while answering. Nothing was added to the conversation; the log has the details."
LOST = (
    "The connection to this page was lost and its conversation is gone from the server. "
    "Your question is back in the box: add its picture again and send."
)


def model_line(engine: Engine) -> str:
    """Which model answers, on what, with which numbers, and why; what it really takes."""
    device, dtype = engine.device, engine.dtype
    slow = f"; {SLOWER}" if dtype.value in QUANTISED else ""
    memory = f", {_size(engine.memory_bytes)} of memory" if engine.memory_bytes else ""
    return f"{engine.card.title} on {device.value} ({device.reason}), {dtype.value} ({dtype.reason}{slow}){memory}"


def starting_line(card: ModelCard, progress: Progress, failure: Exception | None) -> str:
    """In place of `model_line` while the model is not there yet."""
    if failure is not None:
        return f"{card.title} could not be loaded: {failure}"
    if progress.stage == "downloading" and progress.total:
        done, total = progress.done / 2**30, progress.total / 2**30
        return f"{card.title}: downloading, {done:.1f} of {total:.1f} GiB ({progress.done / progress.total:.0%})"
    return f"{card.title}: loading …"


def about(card: ModelCard) -> str:
    """What a user should know about the model, as Markdown."""
    size = [f"{_millions(card.parameters)} parameters"] if card.parameters else []
    licence = f"[{card.licence}]({card.licence_url})" if card.licence_url else card.licence
    facts = [*size, f"{card.context} tokens of context", licence]
    return "\n\n".join(part for part in (card.note, " · ".join(facts), card.statement) if part)


def picture_name(width: int, height: int) -> str:
    """What a picture is called where it cannot be seen."""
    return f"picture, {width} by {height} pixels"


def progress_note(event: Progress) -> str:
    """What is going on before the first word."""
    if event.stage == "waiting":
        return f"{event.total} ahead of you"
    if event.stage == "reading":
        if event.total == 0:
            return THINKING
        return "looking at the picture …" if event.total == 1 else f"looking at {event.total} pictures …"
    share = f" {event.done / event.total:.0%}" if event.total else ""
    return f"{event.stage} the model{share} …"


def finished_note(event: Finished) -> str:
    """The small line under an answer: what it took, and what went differently than wished."""
    usage, timings = event.usage, event.timings
    parts = [SILENT] if not event.text.strip() else []
    parts.append(f"{_seconds(timings.first_token_s)} to first word")
    if speed := timings.tokens_per_s(usage.new_tokens):
        parts.append(f"{speed:.0f} tokens/s")
    if usage.picture_tokens:
        parts.append(f"{usage.picture_tokens} picture tokens")
    if event.reason == "length":
        parts.append(LENGTH)
    if event.dropped_messages:
        parts.append(f"the oldest {event.dropped_messages} messages no longer fit")
    return " · ".join(parts)


def loading(card: ModelCard) -> str:
    """The line printed while the model is being loaded."""
    return f"Loading {card.title} …"


def cannot_listen(host: str, port: int, reason: str) -> str:
    """Why no page can be served there."""
    return f"Cannot listen on {host}, port {port}: {reason}. Choose another --port, or none for the next free one."


def served(address: str, seconds: float) -> str:
    """The line printed once the page can be opened."""
    return f"Open {address} (ready after {seconds:.0f} s; Ctrl-C stops)"


def shared(address: str) -> str:
    """The line printed for a public link."""
    return f"Public link, for anybody who knows it: {address}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.095 else f"{seconds:.2f} s"


def _millions(count: int) -> str:
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
