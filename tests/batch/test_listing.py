"""What a batch is about: folders, lists and tables, and what is said about those that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnilmm.batch.listing import Entry, read_listing
from omnilmm.errors import InputError


def test_a_folder_is_all_its_pictures_and_videos_and_the_rest_is_named(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "deep/c.webp", "deep/clip.mp4", "notes.txt", ".hidden.png", ".git/d.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = read_listing(tmp_path, "What?")
    assert [entry.picture for entry in listing.entries] == ["a.jpg", "b.PNG", "deep/c.webp", "deep/clip.mp4"]
    assert listing.entries[2] == Entry("deep/c.webp", tmp_path / "deep" / "c.webp", "What?")
    assert listing.skipped == ("notes.txt",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "\ufeffa.png\r\n\r\n  sub/b.png \r\n"),
        ("list.csv", 'picture,question\r\na.png,\r\nsub/b.png,""\r\n'),
        ("list.tsv", "Image\tnote\na.png\tx\nsub/b.png\ty\n"),
        ("list.jsonl", '{"path": "a.png"}\n\n{"file": "sub/b.png", "question": null}\n'),
    ],
)
def test_a_list_names_pictures_relative_to_itself(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    entries = read_listing(tmp_path / name, "What?").entries
    assert entries == (Entry("a.png", tmp_path / "a.png", "What?"), Entry("sub/b.png", tmp_path / "sub/b.png", "What?"))


def test_rows_may_have_questions_of_their_own(tmp_path: Path) -> None:
    own = "Line\u2028one, and\nanother? 中文"
    (tmp_path / "a.csv").write_text(f'picture,prompt\na.png,"{own}"\nb.png,\n', encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(
        "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in ({"image": "a", "question": own}, {"image": "b"})
        ),
        encoding="utf-8",
    )
    for name in ("a.csv", "a.jsonl"):
        assert [entry.question for entry in read_listing(tmp_path / name, "Else?").entries] == [own, "Else?"]
        with pytest.raises(InputError, match="no question"):
            read_listing(tmp_path / name, None)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.txt", None, "cannot be read: No such file"),
        ("empty.txt", b" \n", "names no pictures"),
        ("empty.csv", b"picture\n", "names no pictures"),
        ("other.csv", b"name,size\na,1\n", "line 2: there is no picture. Expected a column named picture or image"),
        ("broken.jsonl", b'{"picture": \n', "cannot be read"),
        ("numbers.jsonl", b'{"picture": "a"}\n[1]\n', "line 2: there is no picture"),
        ("number.jsonl", b'{"picture": 5}\n', "there is no picture"),
        ("latin.txt", b"\xff\xfea.png", "cannot be read"),
        ("a.png", b"x", "is a picture itself: ask about it with --image"),
        ("folder", "folder", "names no pictures"),
    ],
)
def test_what_is_no_list_is_reported_in_one_line(
    tmp_path: Path, name: str, content: bytes | str | None, says: str
) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_listing(path, "What?")
    assert says in str(refused.value) and "\n" not in str(refused.value)
