"""Reading questions: VLMEvalKit's columns, JSONL, exported conversations, and files that are none of these."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnilmm.archive import to_json
from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import InputError, OmniLMMError
from omnilmm.evaluation.rows import grouped, metric_for, read_rows


def png(red: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (red, 0, 0)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def reds(row: Any) -> list[int]:
    return [picture.image.getpixel((0, 0))[0] for picture in row.opened()]


def test_a_tsv_of_vlmevalkit(tmp_path: Path) -> None:
    big = base64.b64encode(b"\0" * 200_000).decode()  # longer than Python's limit of a field
    rows = read_rows(
        table(
            tmp_path / "a.tsv",
            [
                {"index": 5, "question": "What?\nIt?", "answer": "B", "A": "1", "B": "0", "C": "", "image": png(7)},
                {"index": 1000005, "question": "What?", "answer": "A", "A": "0", "B": "1", "image": "5", "hint": "h"},
                {
                    "index": 6,
                    "question": "{x}",
                    "answer": "A",
                    "A": "x",
                    "B": "y",
                    "image": json.dumps([png(1), png(2)]),
                },
                {
                    "index": 7,
                    "question": "?",
                    "answer": "A",
                    "A": "x",
                    "B": "y",
                    "image": big,
                    "category": "c",
                    "L2-Category": "l",
                    "split": "dev",
                },
            ],
        )
    )
    first, rotated, two, last = rows
    assert (first.question, first.asked.answers, dict(first.asked.options)) == (
        "What?\nIt?",
        ("B",),
        {"A": "1", "B": "0"},
    )
    assert reds(first) == reds(rotated) == [7] and reds(two) == [1, 2] and rotated.hint == "h"
    assert (last.asked.category, last.coarse, last.split) == ("c", "l", "dev")
    assert "image" not in last.cells and last.cells["split"] == "dev"
    with pytest.raises(OmniLMMError):
        last.opened()
    assert metric_for(rows) == "choice-circular" and metric_for([first, two]) == "choice"
    assert [row.asked.group for row in grouped(rows, "choice-circular")] == ["5", "5", "6", "7"]
    one, other, *_ = grouped(rows, "yes-no")
    assert one.asked.group == other.asked.group != ""  # the same picture


def test_a_jsonl_with_paths(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (9, 0, 0)).save(tmp_path / "a.png")
    lines = [
        {"question": "Is it red?", "answer": "Yes", "image": "a.png"},
        {"question": "Is it blue?", "answer": "No", "image": f"data:image/png;base64,{png(3)}"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    rows = read_rows(path)
    assert [row.asked.index for row in rows] == ["0", "1"] and [reds(row) for row in rows] == [[9], [3]]
    assert metric_for(rows) == "yes-no"


def test_a_table_may_name_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30), (9, 0, 0)).save(tmp_path / "photos" / "a.png")
    images = ["photos/a.png", "0", json.dumps(["photos/a.png", png(4)]), png(5)]
    rows = read_rows(table(tmp_path / "a.tsv", [{"question": "?", "image": image} for image in images]))
    assert [reds(row) for row in rows] == [[9], [9], [9, 4], [5]]


def test_a_right_answer_that_looks_like_a_list_is_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers: list[Any] = ["[1, 2]", '["x", "y"]', ["x", 1], "[a] b"]
    path.write_text("".join(json.dumps({"question": "?", "answer": answer}) + "\n" for answer in answers))
    read = [row.asked.answers for row in read_rows(path)]
    assert read == [("[1, 2]",), ('["x", "y"]',), ("x", "1"), ("[a] b",)]
    in_table = table(tmp_path / "a.tsv", [{"index": 1, "question": "?", "answer": "[1, 2]"}])
    assert read_rows(in_table)[0].asked.answers == ("[1, 2]",)


def test_a_later_turn_knows_the_pictures_of_its_conversation(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [{"conversation": "x", "image": png(4)}, {"conversation": "x"}, {"image": png(5)}]
    cells += [{"conversation": "x", "image": png(6), "counts": "no"}]
    table(tmp_path / "a.tsv", [row | {"index": n, "question": "?", "answer": "a"} for n, row in enumerate(cells)])
    rows = read_rows(tmp_path / "a.tsv")
    seen = [[picture.image.getpixel((0, 0))[0] for picture in row.opened(earlier=True)] for row in rows]  # type: ignore[index]
    assert seen == [[4], [4], [5], [4, 6]] and [reds(row) for row in rows] == [[4], [], [5], [6]]
    assert [row.counts for row in rows] == [True, True, True, False]


@pytest.mark.parametrize(
    ("answers", "metric"),
    [(["a", "b"], "exact"), (["['a', 'b']"], "vqa"), (["<ref>x</ref><box>1 2 3 4</box>", "a"], "literal")],
)
def test_the_metric_follows_the_columns(tmp_path: Path, answers: list[str], metric: str) -> None:
    rows = [{"index": number, "question": "?", "answer": answer} for number, answer in enumerate(answers)]
    assert metric_for(read_rows(table(tmp_path / "a.tsv", rows))) == metric


def test_exported_conversations_are_questions_with_their_history(tmp_path: Path) -> None:
    talk = Conversation(system="Be brief.").with_message("user", Picture(Image.new("RGB", (40, 30))), "One?")
    talk = talk.with_message("assistant", "1").with_message("user", "Two?").with_message("assistant", "2")
    (tmp_path / "a.json").write_text(to_json(talk))
    (tmp_path / "b.json").write_text(to_json(Conversation().with_message("user", "x").with_message("assistant", "y")))
    for path, count in ((tmp_path / "a.json", 2), (tmp_path, 3)):
        rows = read_rows(path)
        assert [row.asked.index for row in rows] == ["a/1", "a/2", "b/1"][:count]
        assert [row.asked.answers for row in rows[:2]] == [("1",), ("2",)]
        assert rows[1].history.messages == talk.messages[:3] and rows[1].history.system == "Be brief."


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_the_index_from_a_name_that_is_not_utf_8_can_be_written(tmp_path: Path) -> None:
    talk = Conversation().with_message("user", "x").with_message("assistant", "y")
    (tmp_path / os.fsdecode(b"a\xff.json")).write_text(to_json(talk))
    assert read_rows(tmp_path)[0].asked.index == r"a\xff/1"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tsv", None, "No such file"),
        ("a.xlsx", b"PK", "expected .tsv, .csv, .jsonl"),
        ("a.tsv", b"index\tquestion\n", "has no questions"),
        ("a.tsv", b"index\tanswer\n1\tx\n", "row 1: the column question"),
        ("a.tsv", b"index\tquestion\n1\tx\n1\ty\n", "the same index"),
        ("a.jsonl", b"{", "cannot be read"),
        ("a.jsonl", b"[1]\n", "column question"),
        ("a.tsv", b"\xff\xfe\x00", "cannot be read"),
        ("a.json", b"{}", "format: Field required"),
    ],
)
def test_what_is_no_benchmark_is_reported_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_rows(tmp_path / name)
    assert says in str(refused.value) and "\n" not in str(refused.value)
