"""Text generation in English and Chinese: many ways to ask, exactly one way to state a fact.

The sentence templates are in `languages/*.yaml`, the grammar for filling them is here. Questions and answers are built
from names (`Name`), so their content is independent of the language.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Code = Literal["en", "zh"]
CODES: tuple[Code, ...] = ("en", "zh")
_FOLDER = Path(__file__).parent / "languages"


@dataclass(frozen=True)
class Name:
    """The name of a thing, e.g. ("star", "red", "large"); all values are keys of the languages' tables.

    `kind` is a kind of shape, or a general noun: "shape", "one", "word", "number", "sign".
    """

    kind: str
    colour: str | None = None
    size: str | None = None


class Language(ABC):
    """Base class of both languages: the tables, and the choice among ways to ask.

    Args:
        code: code of the language, and name of its file.
    """

    def __init__(self, code: Code) -> None:
        tables: dict[str, Any] = yaml.safe_load((_FOLDER / f"{code}.yaml").read_text(encoding="utf-8"))
        self.kinds: dict[str, str] = tables["kinds"]
        self.colours: dict[str, str] = tables["colours"]
        self.sizes: dict[str, str] = tables["sizes"]
        self.places: dict[str, str] = tables["places"]
        self.sides: dict[str, str] = tables["sides"]
        self.ordinals: list[str] = tables["ordinals"]
        self.questions: dict[str, list[str]] = tables["questions"]
        self.answers: dict[str, str] = tables["answers"]
        self.chat: dict[str, dict[str, Any]] = tables["chat"]

    def ask(self, key: str, rng: random.Random, **gaps: str) -> str:
        """Return a random variant of a question, filled in with `gaps`."""
        return self._casual(rng.choice(self.questions[key]).format(**gaps), rng)

    def say(self, key: str, **gaps: str) -> str:
        """Return the text of an answer, filled in with `gaps`."""
        return self.answers[key].format(**gaps)

    def small_talk(self, rng: random.Random) -> tuple[str, str]:
        """Return a small-talk question and its fixed answer."""
        topic = self.chat[rng.choice(sorted(self.chat))]
        return self._casual(rng.choice(topic["questions"]), rng), topic["answer"]

    def _casual(self, question: str, rng: random.Random) -> str:
        """Vary spelling and punctuation as users do."""
        return question

    @abstractmethod
    def one(self, name: Name) -> str:
        """Return the singular: "red star" for ("star", "red")."""

    @abstractmethod
    def many(self, name: Name) -> str:
        """Return the plural: "red stars" for ("star", "red")."""

    @abstractmethod
    def some(self, name: Name, count: int = 1) -> str:
        """Return the noun with article or number: "a red star" or "two red stars" for ("star", "red")."""

    @abstractmethod
    def joined(self, parts: list[str]) -> str:
        """Join parts to an enumeration."""

    @abstractmethod
    def counted(self, name: Name, count: int) -> str:
        """Return the sentence that states how many there are."""

    def quoted(self, text: str) -> str:
        """Quote printed text; always quoted, so that it is tokenized character by character."""
        return f'"{text}"'


class English(Language):
    """English: articles, plurals, and British or American spelling in questions."""

    _NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def one(self, name: Name) -> str:
        """See `Language.one`."""
        words = (name.size and self.sizes[name.size], name.colour and self.colours[name.colour], self.kinds[name.kind])
        return " ".join(word for word in words if word)

    def many(self, name: Name) -> str:
        """See `Language.many`."""
        one = self.one(name)
        return one + ("es" if one.endswith("s") else "s")

    def some(self, name: Name, count: int = 1) -> str:
        """See `Language.some`."""
        one = self.one(name)
        if count == 1:
            return ("an " if one[0] in "aeiou" else "a ") + one
        return f"{self._NUMBERS[count]} {self.many(name)}"

    def joined(self, parts: list[str]) -> str:
        """See `Language.joined`."""
        return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]

    def counted(self, name: Name, count: int) -> str:
        """See `Language.counted`."""
        if count == 0:
            return f"There are no {self.many(name)}."
        return f"There is 1 {self.one(name)}." if count == 1 else f"There are {count} {self.many(name)}."

    def _casual(self, question: str, rng: random.Random) -> str:
        if rng.random() < 0.5:
            question = question.replace("colour", "color")
        question = question.replace("picture", rng.choice(("picture", "picture", "image", "photo", "drawing")))
        if rng.random() < 0.15 and '"' not in question:
            whole = rng.random() < 0.7
            question = question.lower() if whole else question[0].lower() + question[1:]
        return question.rstrip("?.") if rng.random() < 0.15 else question


class Chinese(Language):
    """Chinese: measure words, no plurals."""

    def one(self, name: Name) -> str:
        """See `Language.one`."""
        colour = f"{self.colours[name.colour]}的" if name.colour else ""
        return f"{colour}{self.sizes[name.size] if name.size else ''}{self.kinds[name.kind]}"

    def many(self, name: Name) -> str:
        """See `Language.many`."""
        one = self.one(name)
        return one.removesuffix(self.kinds["one"]) + "那些" if name.kind == "one" else one

    def some(self, name: Name, count: int = 1) -> str:
        """See `Language.some`."""
        return f"{count}个{self.one(name)}"

    def joined(self, parts: list[str]) -> str:
        """See `Language.joined`."""
        return parts[0] if len(parts) == 1 else "、".join(parts[:-1]) + "和" + parts[-1]

    def counted(self, name: Name, count: int) -> str:
        """See `Language.counted`."""
        return f"没有{self.one(name)}。" if count == 0 else f"有{self.some(name, count)}。"

    def quoted(self, text: str) -> str:
        """See `Language.quoted`."""
        return f"“{text}”"

    def _casual(self, question: str, rng: random.Random) -> str:
        question = question.replace("图片", rng.choice(("图片", "图片", "图", "图像", "画")))
        return question.rstrip("？。") if rng.random() < 0.15 else question


@cache
def language(code: Code) -> Language:
    """Return the language with this code."""
    return (English if code == "en" else Chinese)(code)
