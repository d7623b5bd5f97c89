"""Files of rows: written at once, resumed after a kill, never mixed with other runs, never half."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from omnilmm.batch.rows import RowFile
from omnilmm.errors import InputError

COLUMNS, KEY, SAME = ("picture", "answer", "error", "model", "seconds"), ("picture",), {"model": "small"}
ODD = 'a "quoted", =1+1\r\nsecond\u2028line 中文 \\ '
each_format = pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])


def opened(path: Path, **same: Any) -> RowFile:
    return RowFile(path, COLUMNS, KEY, SAME | same)


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file.read().split("\n")[:-1]]


@each_format
def test_rows_are_there_at_once_and_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with opened(path) as file:
        file.append({"picture": "a", "answer": ODD, "seconds": 0.5})
        assert [row["answer"] for row in read(path)] == [ODD]
    with opened(path) as file:
        assert [(row["picture"], row["answer"], row["model"]) for row in file.rows] == [("a", ODD, "small")]
        assert file.missing([("a",), ("b",), ("a",)]) == [1, 2]
        file.append({"picture": "b", "answer": "", "seconds": 1})
        assert file.missing([("a",), ("b",), ("a",)]) == [2]
    assert [row["picture"] for row in read(path)] == ["a", "b"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [name]  # no lock, no part


@each_format
def test_a_row_that_was_cut_off_is_asked_again_wherever_it_was_cut(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with opened(path) as file:
        file.append({"picture": "a", "answer": "one", "seconds": 1})
        first = len(path.read_bytes())
        file.append({"picture": "b", "answer": ODD, "seconds": 2})
    whole = path.read_bytes()
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        with opened(path) as file:
            assert [row["picture"] for row in file.rows] == ["a"], cut
    assert len(read(path)) == 1


@each_format
def test_rows_with_errors_are_tried_again_and_the_order_is_that_of_the_questions(tmp_path: Path, name: str) -> None:
    path, keys = tmp_path / name, [("a",), ("b",), ("c",), ("b",)]
    with opened(path) as file:
        for picture, error in (("a", ""), ("b", "damaged"), ("c", ""), ("b", "")):
            file.append({"picture": picture, "answer": "x", "error": error, "seconds": 1})
    assert [row["error"] for row in read(path)] == ["", "damaged", "", ""]
    with opened(path) as file:
        assert file.missing(keys) == [3]
        file.append({"picture": "b", "answer": "y", "seconds": 1})
        file.sort(keys)
    assert [(row["picture"], row["answer"]) for row in read(path)] == [("a", "x"), ("b", "x"), ("c", "x"), ("b", "y")]


@each_format
def test_another_run_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with opened(path) as file:
        file.append({"picture": "a", "answer": "one", "seconds": 1})
    before = path.read_bytes()
    with pytest.raises(InputError, match="its model is small, now it is large"):
        opened(path, model="large")
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.csv", "date,price\n1,2\n"),
        ("mine.jsonl", '{"date": 1}\n'),
        ("mine.jsonl", "[1]\n"),
        ("mine.jsonl", "no json\n{}\n"),
        ("mine.csv", b"\xff\xfe\xff"),
        ("mine.csv", "date,price"),
        ("mine.jsonl", '{"date": 1}'),
        ("mine.txt", "a\n"),
    ],
)
def test_a_file_of_something_else_is_never_touched(tmp_path: Path, name: str, content: str | bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = path.read_bytes()
    with pytest.raises(InputError):
        opened(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_two_programs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with opened(path), pytest.raises(InputError, match="another program"):
        opened(path)
    with opened(path):
        pass


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="create it first"):
        opened(tmp_path / "none" / "rows.csv")
