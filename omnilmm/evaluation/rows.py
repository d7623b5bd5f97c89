"""Questions with their right answers: VLMEvalKit's TSV, JSONL, and exported conversations.

TSV and CSV have the columns of VLMEvalKit: `index`, `question`, `answer` (a text, or a list of them), `image` (base64,
a list of it, the index of another row, or a path) or `image_path`, `A` … `Z`, `hint`, `category`, `l2-category`,
`split`, `g_index`; and of this program: `objects` (for CHAIR), `conversation` (rows with the same value are turns of
one conversation, with the model's own answers as history) and `counts` ("no" for a turn that is asked but not scored).
JSONL has the same names, with `image` as a path. In an exported conversation every answer is the right one to its
question. Cells are data: nothing in them is executed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omnilmm.archive import read_conversation_file
from omnilmm.batch.rows import storable
from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.errors import InputError
from omnilmm.evaluation.metrics.base import Asked, listed
from omnilmm.evaluation.metrics.choices import CIRCLE, circle_of
from omnilmm.images.pixels import open_picture
from omnilmm.images.sources import decoded

LONGEST_PATH = 1024  # characters; what is longer is base64
LONGEST_INDEX = 64  # a shorter image cell is the index of another row, as in VLMEvalKit
Source = str | Path  # base64, or the path of a file


@dataclass(frozen=True)
class Row:
    """One question.

    Attributes:
        asked: what a metric needs: index, right answers, options, category.
        question: its text.
        pictures: new pictures of this turn, not opened yet.
        earlier: pictures of the earlier turns of its conversation.
        hint: what the question comes with.
        split: part of the benchmark.
        coarse: coarser category (`l2-category`).
        picture_group: names the pictures, for metrics over all questions about one.
        conversation: turns with the same value belong together.
        counts: whether it is scored.
        history: what came before, of an exported conversation.
        cells: all columns but the pictures, for tables.
    """

    asked: Asked
    question: str
    pictures: tuple[Source, ...] = ()
    earlier: tuple[Source, ...] = ()
    hint: str = ""
    split: str = ""
    coarse: str = ""
    picture_group: str = ""
    conversation: str = ""
    counts: bool = True
    history: Conversation = field(default_factory=Conversation)
    cells: Mapping[str, Any] = field(default_factory=dict)

    def opened(self, *, earlier: bool = False) -> list[Picture]:
        """Open the pictures, or those of the earlier turns, too.

        Raises:
            ImageError: One cannot be read.
        """
        sources = (*self.earlier, *self.pictures) if earlier else self.pictures
        return [open_picture(source if isinstance(source, Path) else decoded(source)) for source in sources if source]


def read_rows(path: Path) -> list[Row]:
    """Read a benchmark from a file, or from a folder of exported conversations.

    Raises:
        InputError: It cannot be read, or a row lacks a question or an answer; the message says which.
    """
    try:
        if path.is_dir():
            rows = [row for file in sorted(path.glob("*.json")) for row in _of_conversation(file)]
        elif path.suffix.lower() == ".json":
            rows = _of_conversation(path)
        else:
            rows = _of_cells(path, list(_cells(path)))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("benchmark_unreadable", path=path, reason=reason) from error
    if not rows:
        raise InputError("benchmark_empty", path=path)
    if len({row.asked.index for row in rows}) < len(rows):
        raise InputError("benchmark_index_twice", path=path)
    return rows


def metric_for(rows: Sequence[Row]) -> str:
    """Return the metric that fits the columns."""
    indices = {row.asked.index for row in rows}
    if all(row.asked.options for row in rows):
        rotated = any(index.isdecimal() and int(index) >= CIRCLE and circle_of(index) in indices for index in indices)
        return "choice-circular" if rotated or any("g_index" in row.cells for row in rows) else "choice"
    if {answer.strip().lower() for row in rows for answer in row.asked.answers} <= {"yes", "no"}:
        return "yes-no"
    if any("<box>" in answer for row in rows for answer in row.asked.answers):
        return "literal"
    return "vqa" if any(len(row.asked.answers) > 1 for row in rows) else "exact"


def grouped(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the rows with the groups that a metric needs: rotations of a question, or questions about a picture."""

    def group(row: Row) -> str:
        if metric == "choice-circular":
            return str(row.cells.get("g_index") or circle_of(row.asked.index))
        return row.picture_group

    return [replace(row, asked=replace(row.asked, group=group(row))) for row in rows]


def _cells(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix.lower() == ".jsonl":
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    cells = json.loads(line)
                    if not isinstance(cells, dict):
                        raise InputError("benchmark_row_incomplete", path=path, row=number, column="question")
                    yield cells
        return
    if path.suffix.lower() not in (".tsv", ".csv"):
        raise InputError("benchmark_format", path=path)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # of pictures in base64
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","):
            yield {name: value for name, value in row.items() if name is not None and value not in (None, "")}


def _of_cells(path: Path, table: list[dict[str, Any]]) -> list[Row]:
    table = [{_named(name): value for name, value in cells.items()} for cells in table]
    images = {str(cells.get("index", number)): cells.get("image") for number, cells in enumerate(table)}
    rows, shown = [], dict[str, tuple[Source, ...]]()
    for number, cells in enumerate(table):
        row = _row(path, number, cells, images)
        if row.conversation:
            row = replace(row, earlier=shown.get(row.conversation, ()))
            shown[row.conversation] = (*row.earlier, *row.pictures)
        rows.append(row)
    return rows


def _named(name: str) -> str:
    """Return the name of a column: letters of options are upper case, all others lower."""
    name = name.strip()
    return name if name in string.ascii_uppercase else name.lower()


def _row(path: Path, number: int, cells: dict[str, Any], images: Mapping[str, Any]) -> Row:
    if not str(cells.get("question", "")).strip():
        raise InputError("benchmark_row_incomplete", path=path, row=number + 1, column="question")
    index = storable(str(cells.get("index", number)))
    options = {letter: str(cells[letter]) for letter in string.ascii_uppercase if letter in cells}
    is_table = _is_table(path)
    answers = listed(cells["answer"], is_table=is_table) if "answer" in cells else ()
    objects = listed(cells["objects"], is_table=is_table) if "objects" in cells else answers
    if len(objects) == 1:
        objects = tuple(part.strip() for part in objects[0].split(",") if part.strip())
    pictures = tuple(_pictures(path, cells, images))
    named = "\n".join(str(picture) for picture in pictures)
    return Row(
        Asked(index, answers, options, category=str(cells.get("category", "")), objects=objects),
        str(cells["question"]),
        pictures,
        hint=str(cells.get("hint", "")),
        split=str(cells.get("split", "")),
        coarse=str(cells.get("l2-category", "")),
        picture_group=str(cells.get("image_path") or hashlib.sha256(named.encode()).hexdigest()[:16]),
        conversation=str(cells.get("conversation", "")),
        counts=str(cells.get("counts", "yes")).strip().lower() not in ("no", "false", "0"),
        cells={name: value for name, value in cells.items() if name not in ("image", "picture", "images")},
    )


def _is_table(path: Path) -> bool:
    return path.suffix.lower() != ".jsonl"


def _pictures(path: Path, cells: Mapping[str, Any], images: Mapping[str, Any]) -> Iterator[Source]:
    cell = next((cells[name] for name in ("image", "picture", "images") if cells.get(name)), None)
    is_table = _is_table(path)
    if cell is not None and is_table and len(str(cell)) <= LONGEST_INDEX and str(cell) in images:
        cell = images[str(cell)]
    if cell is not None:
        for part in listed(cell, is_table=is_table):
            is_text = part[:5].lower() == "data:" or (is_table and not _is_path(path.parent, part))
            yield part if is_text else path.parent / part
    elif cells.get("image_path"):
        yield from (path.parent / part for part in listed(cells["image_path"], is_table=is_table))


def _is_path(folder: Path, cell: str) -> bool:
    """Return whether a cell is a path, also one that is mistyped: base64 has no dot."""
    try:
        return len(cell) <= LONGEST_PATH and ("." in cell or (folder / cell).is_file())
    except OSError:  # a part of it is too long for a name
        return False


def _of_conversation(path: Path) -> list[Row]:
    """Return a row for each answer of an exported conversation, which is the right one."""
    conversation = read_conversation_file(path)
    rows: list[Row] = []
    for place, message in enumerate(conversation.messages):
        if message.role == "assistant":
            question = conversation.messages[place - 1]
            history = replace(conversation, messages=conversation.messages[: place - 1])
            number = len(rows) + 1
            asked = Asked(f"{storable(path.stem)}/{number}", (message.text,))
            cells = {"index": asked.index, "question": question.text, "answer": message.text}
            rows.append(Row(asked, question.text, history=_with_pictures(history, question), cells=cells))
    return rows


def _with_pictures(history: Conversation, question: Message) -> Conversation:
    """Return the history with the question's own message last, which is then asked as it stands."""
    return replace(history, messages=(*history.messages, question))
