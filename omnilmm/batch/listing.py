"""What a batch is about: a folder of pictures, or a list of them in a file.

A list is a text file with a path per line, or a table (`.csv`, `.tsv`, `.jsonl`) with the columns `picture` and, where
the rows have questions of their own, `question`. Paths are relative to the folder of the list.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnilmm.errors import InputError

PICTURES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif"),
)
VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".3gp")
PICTURE_COLUMNS = ("picture", "image", "file", "path", "image_path")
QUESTION_COLUMNS = ("question", "prompt")
MOST_BYTES = 64 * 2**20  # of a list


@dataclass(frozen=True)
class Entry:
    """One question of a batch.

    Attributes:
        picture: the picture or video as the list names it, or relative to the folder.
        path: its path.
        question: what is asked about it.
    """

    picture: str
    path: Path
    question: str


@dataclass(frozen=True)
class Listing:
    """The questions of a batch.

    Attributes:
        entries: the questions in order.
        skipped: names of files in the folder that are neither pictures nor videos.
    """

    entries: tuple[Entry, ...]
    skipped: tuple[str, ...] = ()


def read_listing(source: Path, question: str | None) -> Listing:
    """Read a folder or a list; pictures are not opened yet.

    Args:
        source: folder (searched with its subfolders, hidden files left out), text file or table.
        question: the question for all entries that have none of their own.

    Raises:
        InputError: The source cannot be read, names no picture, or has an entry without a question.
    """
    try:
        listing = _of_folder(source, question) if source.is_dir() else Listing(tuple(_of_file(source, question)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("batch_unreadable", path=source, reason=reason) from error
    if not listing.entries:
        raise InputError("batch_empty", path=source)
    return listing


def _of_folder(folder: Path, question: str | None) -> Listing:
    entries, skipped = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts) or not path.is_file():
            continue
        if path.suffix.lower() in (*PICTURES, *VIDEOS):
            entries.append(Entry(name, path, _required(question, folder)))
        else:
            skipped.append(name)
    return Listing(tuple(entries), tuple(skipped))


def _of_file(path: Path, question: str | None) -> Iterator[Entry]:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError("batch_list_too_large", path=path, most=MOST_BYTES // 2**20)
    if path.suffix.lower() in (*PICTURES, *VIDEOS):
        raise InputError("batch_of_one_picture", path=path)
    text = content.decode("utf-8-sig")
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        for line in filter(None, map(str.strip, text.split("\n"))):
            yield Entry(line, path.parent / line, _required(question, path))
        return
    for number, row in _rows(path, text):
        named = {str(name).strip().lower(): value for name, value in row.items()}
        picture = next((named[name] for name in PICTURE_COLUMNS if named.get(name)), None)
        if not isinstance(picture, str):
            raise InputError("batch_row_without_picture", path=path, row=number, columns=PICTURE_COLUMNS)
        own = next((named[name] for name in QUESTION_COLUMNS if named.get(name)), question)
        yield Entry(picture, path.parent / picture, _required(own, f"{path}: {number}"))


def _rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a table with their line numbers."""
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputError("batch_row_without_picture", path=path, row=number, columns=PICTURE_COLUMNS)
                yield number, row
        return
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    for row in table:
        yield table.line_num, {name: value for name, value in row.items() if name is not None}


def _required(question: object, place: object) -> str:
    if not isinstance(question, str) or not question.strip():
        raise InputError("batch_without_question", place=place)
    return question
