"""The questions of the evaluation as a file for `python -m omnilmm.evaluation`: a real benchmark of our own making.

Columns are those of VLMEvalKit, and `conversation` and `counts`: the turns of a lesson are asked one after the other,
and those that do not count for the row's ability are asked but not scored. The ability is the category, the language
the `l2-category`. Pictures are drawn; those that the row shows without slices are shrunk until the model does not slice
them, for `evaluate`, too.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from built_in.evaluation import ROWS, Row, _counts, held_out, shown
from built_in.lessons import Lesson
from omnilmm.images.slicing import SlicingRules

COLUMNS = ("index", "conversation", "counts", "question", "answer", "category", "l2-category", "image")


def write(path: Path, rules: SlicingRules, *, questions: int = 500, only: Sequence[str] | None = None) -> int:
    """Write a TSV with `questions` questions of each row that count, the same as `evaluation.examine` asks.

    Returns:
        The number of questions that count.
    """
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        for row in ROWS:
            if only is None or row.name in only:
                for cells in _cells(row, rules, questions):
                    table.writerow(cells)
                    count += cells["counts"] == "yes"
    return count


def _cells(row: Row, rules: SlicingRules, questions: int) -> Iterator[dict[str, str]]:
    number = 0
    while questions:
        lesson = shown(row, held_out(row, number), rules)
        counting = [turn for turn in range(len(lesson.turns)) if _counts(row, lesson, turn)][:questions]
        for turn in range(counting[-1] + 1 if counting else 0):  # what follows the last one needs no answer
            yield _turn(row, lesson, number, turn) | {"counts": "yes" if turn in counting else "no"}
        questions -= len(counting)
        number += 1


def _turn(row: Row, lesson: Lesson, number: int, turn: int) -> dict[str, str]:
    count = sum(lesson.given[: turn + 1])
    new = [drawn.image for drawn in lesson.pictures[count - lesson.given[turn] : count]]
    asked = lesson.turns[turn]
    is_chinese = any("\u4e00" <= character <= "\u9fff" for character in asked.question)
    images = [_png(image) for image in new]
    return {
        "index": f"{row.name}/{number}/{turn}",
        "conversation": f"{row.name}/{number}",
        "question": asked.question,
        "answer": asked.answer,
        "category": row.name,
        "l2-category": "Chinese" if is_chinese else "English",
        "image": json.dumps(images) if len(images) > 1 else "".join(images),
    }


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
