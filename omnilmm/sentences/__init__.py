"""Messages for users as a code and parameters: errors, reasons for choices, and advice.

    Sentence("bitsandbytes_missing", dtype="int4", way=Sentence("use_dtype_auto"))
        ── str() ────────────────> int4 needs the package bitsandbytes: pip install bitsandbytes, or use --dtype auto.
        ── worded("zh", "page") ─> int4 需要 bitsandbytes 包：pip install bitsandbytes，或使用自动选择的数据类型。

The texts are in `en.yaml` and `zh.yaml`, by code, with the parameters in braces. Codes are stable, as programs may
check them; texts may change. A parameter is a number, a text, another sentence, or several of these: `{files}` joins
them as a list, `{ways:or}` as alternatives, with the separators in `lists` of the language. Where the terminal (flags)
and the pages (controls) need different texts, a code has both (`terminal`, `page`); logs and `str()` use the former.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Literal, TypeAlias, cast

import yaml

Language = Literal["en", "zh"]
Door = Literal["terminal", "page"]
MOST_TEXT = 500  # characters of a parameter, which may come from an untrusted file
MOST_BITS = 1000  # of an integer that is written out; Python itself refuses to convert very large ones
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, init=False)
class Sentence:
    """A message as a code and its parameters: plain data that can be compared, pickled and sent.

    Args:
        code: a key of `sentences` in the language files.
        **parameters: values for the placeholders. Anything but numbers, sentences and sequences is converted to text.
    """

    code: str
    parameters: Mapping[str, Parameter] = field(hash=False)

    def __init__(self, code: str, /, **parameters: object) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "parameters", {name: _plain(value) for name, value in parameters.items()})

    def __str__(self) -> str:
        return self.worded()

    def worded(self, language: Language = "en", door: Door = "terminal") -> str:
        """Return the text in a language, worded for the terminal or for the pages."""
        words = words_of(language, door).get(self.code)
        if words is None:  # custom errors of callers may use a text as their code
            return self.code
        try:
            return _Gaps(language, door).vformat(words, (), cast("dict[str, Any]", self.parameters))
        except (LookupError, ValueError):  # a raw message is better than none
            return f"{self.code} ({', '.join(f'{name}={value}' for name, value in self.parameters.items())})"

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON-serialisable objects."""
        return {"code": self.code, "parameters": {name: _to_json(value) for name, value in self.parameters.items()}}

    @classmethod
    def from_json(cls, given: Any) -> Sentence:
        """Create a sentence from the objects of `to_json`.

        Raises:
            KeyError, TypeError: The objects do not describe a sentence.
        """
        code, parameters = given["code"], given["parameters"]
        if not isinstance(code, str) or not isinstance(parameters, dict):
            raise TypeError("expected a code and parameters")
        return cls(code, **{name: _from_json(value) for name, value in parameters.items()})


Parameter: TypeAlias = str | int | float | Sentence | tuple["Parameter", ...] | None


@cache
def words_of(language: Language, door: Door) -> Mapping[str, str]:
    """Return the texts of all codes in a language, for the terminal or for the pages."""
    found = _file(language)["sentences"]
    return {code: words if isinstance(words, str) else words[door] for code, words in found.items()}


@cache
def _file(language: Language) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((_FOLDER / f"{language}.yaml").read_text(encoding="utf-8")))


class _Gaps(Formatter):
    """Fills in the parameters of a sentence, which may be sentences themselves."""

    def __init__(self, language: Language, door: Door) -> None:
        self._language, self._door = language, door

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Sentence):
            return value.worded(self._language, self._door)
        if isinstance(value, tuple):
            return self._listed([self.format_field(part, "") for part in value], format_spec or "list")
        return str(format(value, format_spec))

    def _listed(self, parts: Sequence[str], kind: str) -> str:
        between, before_last = _file(self._language)["lists"][kind]
        first, last = between.join(parts[:-1]), "".join(parts[-1:])
        return f"{first}{before_last}{last}" if first else last


def _plain(value: object) -> Parameter:
    if value is None or isinstance(value, Sentence | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < MOST_BITS else f"~2^{value.bit_length()}"
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    sentence = getattr(value, "sentence", None)  # an error's sentence
    if isinstance(sentence, Sentence):
        return sentence
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} …"


def _to_json(value: Parameter) -> Any:
    if isinstance(value, Sentence):
        return value.to_json()
    return [_to_json(part) for part in value] if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return Sentence.from_json(value)
    return tuple(_from_json(part) for part in value) if isinstance(value, list) else value
