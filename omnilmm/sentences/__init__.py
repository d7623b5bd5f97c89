"""What is said to a reader, as a code and parameters: an error, the reason of a choice, a way out.

    Sentence("bitsandbytes_missing", dtype="int4", way=Sentence("use_dtype_auto"))
        ── str() ────────────────> int4 needs the package bitsandbytes: pip install bitsandbytes, or use --dtype auto.
        ── worded("zh", "page") ─> int4 需要 bitsandbytes 包：pip install bitsandbytes，或使用自动选择的数据类型。

The words stand in `en.yaml` and `zh.yaml`, by code, with the parameters in braces. A code is stable, as programs may
look at it; words may change. A parameter is a number, a text, another sentence, or several of these: `{files}` lists
them, `{ways:or}` gives a choice of them, as `lists` of the language has it. Where a terminal has flags and a page has
choices, a code has words for either (`terminal`, `page`); a program's log and `str()` are a terminal's.
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
MOST_TEXT = 500  # characters of a parameter, which may come from somebody else's file
MOST_BITS = 1000  # of a whole number that is written out; Python itself refuses to write many
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, init=False)
class Sentence:
    """A code and its parameters; plain data, so that it can be compared, pickled and sent.

    Args:
        code: a key of `sentences` in the files of the languages.
        **parameters: what stands in its gaps. What is neither a number nor a sentence nor several of them becomes text.
    """

    code: str
    parameters: Mapping[str, Parameter] = field(hash=False)

    def __init__(self, code: str, /, **parameters: object) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "parameters", {name: _plain(value) for name, value in parameters.items()})

    def __str__(self) -> str:
        return self.worded()

    def worded(self, language: Language = "en", door: Door = "terminal") -> str:
        """The words of a language, for who reads them in a terminal or on a page."""
        words = words_of(language, door).get(self.code)
        if words is None:  # a text of somebody else's, who adds errors of their own
            return self.code
        try:
            return _Gaps(language, door).vformat(words, (), cast("dict[str, Any]", self.parameters))
        except (LookupError, ValueError):  # better said badly than not at all
            return f"{self.code} ({', '.join(f'{name}={value}' for name, value in self.parameters.items())})"

    def to_json(self) -> dict[str, Any]:
        """As objects of JSON."""
        return {"code": self.code, "parameters": {name: _to_json(value) for name, value in self.parameters.items()}}

    @classmethod
    def from_json(cls, given: Any) -> Sentence:
        """From objects of JSON.

        Raises:
            KeyError, TypeError: It is none.
        """
        code, parameters = given["code"], given["parameters"]
        if not isinstance(code, str) or not isinstance(parameters, dict):
            raise TypeError("expected a code and parameters")
        return cls(code, **{name: _from_json(value) for name, value in parameters.items()})


Parameter: TypeAlias = str | int | float | Sentence | tuple["Parameter", ...] | None


@cache
def words_of(language: Language, door: Door) -> Mapping[str, str]:
    """The words of all codes, as a door has them."""
    found = _file(language)["sentences"]
    return {code: words if isinstance(words, str) else words[door] for code, words in found.items()}


@cache
def _file(language: Language) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((_FOLDER / f"{language}.yaml").read_text(encoding="utf-8")))


class _Gaps(Formatter):
    """Fills the gaps of a sentence, whose parameters may be sentences themselves."""

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
    said = getattr(value, "sentence", None)  # of an error
    if isinstance(said, Sentence):
        return said
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
