"""CHAIR: the share of objects named in a description that are not in the picture.

Source: Rohrbach et al., Object Hallucination in Image Captioning (arXiv:1809.02156). The objects and their synonyms
come from a file, one object per line: its name, then its synonyms, separated by commas (as the authors'
`synonyms.txt`). The published code also has rules for COCO's words ("baby bird" is no person), which a line
"bird, baby bird" expresses here; and it finds singulars with a library, here a plural is a word with s, es or ies.
English only. Object HalBench (arXiv:2312.00849) lets a language model find the objects, so that its figures differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from omnilmm.errors import InputError
from omnilmm.evaluation.metrics.base import Asked, Mark, Marked, Measured, Ratio

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


class Objects:
    """Objects and their synonyms.

    Args:
        synonyms: the object of each synonym; each object is its own synonym.
    """

    def __init__(self, synonyms: Mapping[str, str]) -> None:
        self.synonyms = {tuple(_words(words)): name for words, name in synonyms.items()}
        self.longest = max(map(len, self.synonyms), default=1)

    @classmethod
    def read(cls, path: Path) -> Objects:
        """Read a word list.

        Raises:
            InputError: The file cannot be read, or names nothing.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "word_list_unreadable", path=path, reason=getattr(error, "strerror", None) or error
            ) from error
        synonyms: dict[str, str] = {}
        for line in lines:
            words = [word.strip().lower() for word in line.split(",") if word.strip()]
            for word in words:
                synonyms.setdefault(word, words[0])
        if not synonyms:
            raise InputError("word_list_empty", path=path)
        return cls(synonyms)

    def named_in(self, text: str) -> list[str]:
        """Return the objects that a text names, as often as it does; the longest synonym wins ("hot dog")."""
        words, found, place = _words(text), [], 0
        while place < len(words):
            for length in range(min(self.longest, len(words) - place), 0, -1):
                here = words[place : place + length]
                name = next((self.synonyms[one] for one in _singulars(here) if one in self.synonyms), None)
                if name is not None:
                    found.append(name)
                    place += length
                    break
            else:
                place += 1
        return found

    def mark(self, asked: Asked, answer: str) -> Mark:
        """Mark a description: out of the objects it names, those that are not in the picture."""
        there = {name for one in asked.objects for name in (self.named_in(one) or [one.lower()])}
        named = self.named_in(answer)
        wrong = [name for name in named if name not in there]
        return Mark(float(not wrong), ", ".join(wrong), out_of=float(len(named)), gained=float(len(wrong)))


def measure(marked: Marked) -> tuple[Measured, ...]:
    """Return CHAIRi (of all objects named) and CHAIRs (of all descriptions); lower is better."""
    units = [asked.index for asked, _ in marked]
    of_objects = Ratio("CHAIRi", [mark.sum for _, mark in marked], [mark.out_of for _, mark in marked], units=units)
    wrong = [1.0 - mark.credit for _, mark in marked]
    return of_objects, Ratio("CHAIRs", wrong, [1.0] * len(wrong), units=units)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _singulars(words: list[str]) -> list[tuple[str, ...]]:
    """Return the words as they are, and with the last one as the singular of a plural."""
    *before, last = words
    forms = [last]
    if last.endswith("ies"):
        forms.append(f"{last[:-3]}y")
    if last.endswith("es"):
        forms.append(last[:-2])
    if last.endswith("s") and not last.endswith("ss"):
        forms.append(last[:-1])
    return [(*before, form) for form in forms]
