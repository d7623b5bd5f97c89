"""Training data: conversations about pictures from a JSON or JSONL file, each row with the line where it begins.

Forms of a row, all of which may be mixed in one file:

- the published one: `image` and `conversations` of `{"role": "user" | "assistant", "content": text}`
- `messages` of the same form, whose content may also be a list of `{"type": "text" | "image", …}`
- ShareGPT's: `conversations` of `{"from": "human" | "gpt" | "system", "value": text}`

`image` (or `images`) is a path, a list of paths, a dict whose keys are the placeholders (`<image_00>`), or absent.
Paths are relative to the file. Without a placeholder, `<image>`, all pictures come before the first question.

No row is skipped, replaced or cut: `read_rows` and `conversation_of` report everything that is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from omnilmm.conversation import Conversation, Part, Role
from omnilmm.errors import InputError
from omnilmm.images.pixels import open_picture
from omnilmm.sentences import Sentence

PLACEHOLDER = r"<image(?:_\d+)?>"
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class TypedPart(_Loose):
    """One part of a content in list form."""

    type: Literal["text", "image"]
    text: str = ""
    image: str | None = Field(default=None, validation_alias=AliasChoices("image", "path"))


class Turn(_Loose):
    """One message of a row."""

    role: Annotated[
        Literal["system", "user", "assistant"], BeforeValidator(lambda role: ROLES.get(str(role), role))
    ] = Field(validation_alias=AliasChoices("role", "from"))
    content: str | tuple[TypedPart, ...] = Field(validation_alias=AliasChoices("content", "value"))


class Row(_Loose):
    """One row of the file."""

    id: str | int | None = None
    group: str | None = None  # names a line of the table of `forgetting`
    image: str | dict[str, str] | tuple[str, ...] | None = Field(
        default=None, validation_alias=AliasChoices("image", "images")
    )
    system: str | None = None
    turns: tuple[Turn, ...] = Field(validation_alias=AliasChoices("conversations", "messages"), min_length=1)

    @property
    def paths(self) -> dict[str, str] | list[str]:
        """The pictures: by placeholder, or in order."""
        if isinstance(self.image, str):
            return [self.image] if self.image else []
        return list(self.image) if isinstance(self.image, tuple) else self.image or []


@dataclass(frozen=True)
class Slot:
    """The place of a picture in a message: by the placeholder written there, or by the path of the picture."""

    key: str = ""
    path: str | None = None


@dataclass(frozen=True)
class Located:
    """A row, or why there is none, and the line where it begins."""

    line: int
    row: Row | None = None
    problem: Sentence | None = None


def read_rows(path: Path) -> list[Located]:
    """Read all rows of a file, bad ones with the reason.

    Raises:
        InputError: The file is missing, is no JSON at all, or has no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("data_unreadable", path=path, reason=getattr(error, "strerror", None) or error) from error
    found = list(_list(text, path) if text.lstrip().startswith("[") else _lines(text))
    if not found:
        raise InputError("data_empty", path=path)
    if not any(located.row for located in found) and not text.lstrip().startswith(("[", "{")):
        raise InputError("data_no_json", path=path)
    return found


def _lines(text: str) -> Iterator[Located]:
    for number, line in enumerate(text.split("\n"), 1):  # not at U+2028 or U+0085, which JSON allows
        if line.strip():
            try:
                yield _located(number, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Located(number, problem=Sentence("row_no_json", reason=error))


def _list(text: str, path: Path) -> Iterator[Located]:
    """Decode the elements of a JSON list one by one, which tells the line of each."""
    decoder, place, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    space = re.compile(r"[\s,]*")
    while True:
        match = space.match(text, place)
        place = match.end() if match else place
        if text[place : place + 1] == "]":
            return _check_end(text, place + 1, path)
        line += text.count("\n", counted, place)
        counted = place
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise InputError("data_broken", path=path, line=line, reason=error) from error
        yield _located(line, row)


def _check_end(text: str, end: int, path: Path) -> None:
    """Check that nothing follows the list: a second one would be left out without a word."""
    if text[end:].strip():
        place = len(text) - len(text[end:].lstrip())
        reason = json.JSONDecodeError("Extra data", text, place)
        raise InputError("data_broken", path=path, line=reason.lineno, reason=reason)


def _located(line: int, given: Any) -> Located:
    if not isinstance(given, Mapping):
        return Located(line, problem=Sentence("row_no_object", kind=type(given).__name__))
    try:
        return Located(line, Row.model_validate(given))
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]]
        return Located(line, problem=Sentence("row_form", reasons=reasons))


def conversation_of(row: Row, folder: Path) -> Conversation:
    """Convert a row to a conversation, with its pictures decoded.

    Args:
        row: the row.
        folder: folder to which its paths are relative.

    Raises:
        OmniLMMError: The roles are out of order, an answer is empty, a picture cannot be read, or the placeholders do
            not match the pictures.
    """
    system, messages = written(row)
    named = dict.fromkeys(part.path for _, parts in messages for part in parts if isinstance(part, Slot))
    opened = {path: open_picture(folder / str(path)) for path in named}
    conversation = Conversation(system=system)
    for role, content in messages:
        parts: list[Part] = [opened[part.path] if isinstance(part, Slot) else part for part in content]
        conversation = conversation.with_message(role, *parts)
    return conversation


def written(row: Row) -> tuple[str | None, list[tuple[Role, list[str | Slot]]]]:
    """Return the system prompt and the messages of a row, in which each `Slot` has the path of its picture.

    Raises:
        InputError: As `conversation_of`, whatever is known without the pictures.
    """
    turns, system = list(row.turns), row.system
    if turns[0].role == "system":
        system = _text(turns.pop(0))
    _check_roles(turns)
    contents = [list(_pieces(turn, row.paths)) for turn in turns]
    slots = [piece for content in contents for piece in content if isinstance(piece, Slot)]
    if slots:
        found = iter(_paths_of(slots, row.paths))
        contents = [[Slot(path=next(found)) if isinstance(p, Slot) else p for p in content] for content in contents]
    else:
        contents[0][:0] = [
            Slot(path=path) for path in (row.paths.values() if isinstance(row.paths, dict) else row.paths)
        ]
    roles: list[Role] = ["assistant" if turn.role == "assistant" else "user" for turn in turns]
    return system, list(zip(roles, contents, strict=True))


def picture_paths(row: Row) -> tuple[str, ...]:
    """Return the paths of the pictures of a row, in the order of the prompt."""
    _, messages = written(row)
    return tuple(str(part.path) for _, content in messages for part in content if isinstance(part, Slot))


def _paths_of(slots: Sequence[Slot], given: dict[str, str] | list[str]) -> list[str]:
    """Return the picture of each place, if there is a place for each picture and a picture for each place."""
    bare = [slot.key for slot in slots if slot.path is None]
    if set(bare) != set(given) if isinstance(given, dict) else len(bare) != len(given):
        raise InputError("row_placeholders", placeholders=len(bare), pictures=len(given))
    paths = iter([given[key] for key in bare] if isinstance(given, dict) else given)
    return [slot.path or next(paths) for slot in slots]


def _check_roles(turns: list[Turn]) -> None:
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise InputError("row_roles", number=number + 1, expected=expected, got=turn.role)
        if expected == "assistant" and not _text(turn).strip():
            raise InputError("row_empty_answer", number=number + 1)
    if len(turns) % 2 or not turns:
        raise InputError("row_ends_with_question")


def _text(turn: Turn) -> str:
    return turn.content if isinstance(turn.content, str) else "".join(part.text for part in turn.content)


def _pieces(turn: Turn, paths: dict[str, str] | list[str]) -> Iterator[str | Slot]:
    """Yield the texts of a message and the places of its pictures; line breaks beside a picture are the template's."""
    if not isinstance(turn.content, str):
        for part in turn.content:
            yield part.text if part.type == "text" else Slot(path=part.image)
        return
    if turn.role != "user":
        yield turn.content
        return
    keys = sorted(paths, key=len, reverse=True) if isinstance(paths, dict) else []
    end, is_cut = 0, False
    for place in re.finditer("|".join([*map(re.escape, keys), PLACEHOLDER]), turn.content):
        if before := turn.content[end : place.start()].strip("\n"):
            yield before
        yield Slot(place.group())
        end, is_cut = place.end(), True
    rest = turn.content[end:].strip("\n") if is_cut else turn.content
    if rest or not is_cut:
        yield rest
