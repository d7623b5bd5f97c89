"""Speaks answers while they are generated: cut into sentences, and each synthesised by espeak-ng."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

from omnilmm.live import ESPEAK

VOICES = {"en": "en-us", "zh": "cmn"}
LONGEST = 400  # characters of one sentence; a longer one is cut at a comma or space
TIMEOUT_S = 20.0

_HAN, _LATIN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"), re.compile("[A-Za-z]")
_END = re.compile(r"[.!?…]+[\"')\]]*\s|[。！？；]+[”’」]*|\n+")
_COMMA = re.compile(r"[,;:，、]\s?|\s")
_MARKS = (
    (re.compile(r"```.*?(```|$)", re.DOTALL), " "),
    (re.compile(r"<(box|quad|point)>.*?(</\1>|$)", re.DOTALL), " "),
    (re.compile(r"</?\w+>"), ""),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"^\s*([-*+]|#+|>|\d+\.)\s+", re.MULTILINE), ""),
    (re.compile(r"[*_`~|#]+"), ""),
    (re.compile(r"\s+"), " "),
)


class Sentences:
    """Cuts a growing answer into sentences; each is returned once, as soon as it is complete."""

    def __init__(self) -> None:
        self._taken = 0

    def of(self, text: str, *, is_complete: bool = False) -> Iterator[str]:
        """Return the new sentences, as they should be spoken.

        Args:
            text: the answer so far.
            is_complete: whether this is the whole answer.
        """
        while end := self._next(text):
            piece, self._taken = text[self._taken : end], end
            if sentence := speakable(piece):
                yield sentence
        if is_complete:
            piece, self._taken = text[self._taken :], len(text)
            if sentence := speakable(piece):
                yield sentence

    def _next(self, text: str) -> int | None:
        """Return the end of the next sentence; None if it may still grow."""
        rest = text[self._taken :]
        if _is_open(rest):
            return None
        if found := _END.search(rest, 0, LONGEST):
            return self._taken + found.end()
        if len(rest) <= LONGEST:
            return None
        cuts = [found.end() for found in _COMMA.finditer(rest, 0, LONGEST)]
        return self._taken + (cuts[-1] if cuts else LONGEST)


def _is_open(rest: str) -> bool:
    """Return whether the text begins within something that is not spoken and has not ended yet."""
    before = _END.split(rest, maxsplit=1)[0]
    return (before.count("```") % 2 == 1 and rest.count("```") % 2 == 1) or before.count("<box>") > rest.count("</box>")


def speakable(text: str) -> str:
    """Return an answer's text as it should be spoken: without Markdown, code and coordinates of boxes."""
    for pattern, replacement in _MARKS:
        text = pattern.sub(replacement, text)
    text = text.strip()
    return text if any(character.isalnum() for character in text) else ""


def language_of(text: str, otherwise: str) -> str:
    """Return the language in which to read a text: "zh", "en", or `otherwise` if it has no letters."""
    if _HAN.search(text):
        return "zh"
    return "en" if _LATIN.search(text) else otherwise


def synthesised(text: str, language: str) -> bytes | None:
    """Return a WAV file of a sentence; None if it could not be synthesised.

    Args:
        text: the sentence; it is given on standard input, so nothing in it can become an option.
        language: "en" or "zh".
    """
    program = shutil.which(ESPEAK)
    if program is None:
        return None
    command = [program, "-v", VOICES.get(language, VOICES["en"]), "--stdin", "--stdout"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and done.stdout.startswith(b"RIFF") else None
