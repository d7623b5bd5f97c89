"""A visitor's folder: nobody else's files, no name that leads out of it, and only so many bytes."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from omnilmm.errors import InputError
from omnilmm.ui.gradio_page.uploads import COOKIE, HEADER, Uploads, owner_of

NAME = "a" * 40


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", most_bytes=100)


def saved(uploads: Uploads, owner: str, name: str = "a.png", content: bytes = b"x" * 10) -> Path:
    return uploads.save(owner, name, io.BytesIO(content))


def test_a_browser_is_known_by_its_header_or_cookie_and_its_name_is_in_no_path() -> None:
    owner = owner_of({HEADER: NAME})
    assert owner == owner_of({"cookie": f"x=1; {COOKIE}={NAME}"}) and NAME not in owner and len(owner) == 32
    assert owner != owner_of({HEADER: "b" * 40})
    for nobody in ({}, {HEADER: "short"}, {HEADER: "../" * 10}, {"cookie": f"{COOKIE}="}, {"cookie": "\0;;=;"}):
        assert owner_of(nobody) == ""


def test_only_ones_own_file_is_found(uploads: Uploads, tmp_path: Path) -> None:
    mine, theirs = saved(uploads, "mine"), saved(uploads, "theirs")
    assert uploads.file("mine", str(mine)) == mine
    link = mine.with_name("link")
    link.symlink_to(theirs)
    above = mine.parent / ".." / ".." / "theirs" / theirs.parent.name / theirs.name
    for path in (theirs, link, above, mine.parent, tmp_path / "none", "", ".", "\0", "a\0b"):
        with pytest.raises(InputError, match="not among your uploads"):
            uploads.file("mine", str(path))
        uploads.discard("mine", str(path))
    with pytest.raises(InputError):
        uploads.file("", str(mine))
    assert mine.exists() and theirs.exists()
    uploads.discard("mine", str(mine))
    assert not mine.exists()
    uploads.forget("")
    assert theirs.exists()
    uploads.forget("theirs")
    assert not theirs.exists()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("photo 1 (2).png", "photo 1 (2).png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.png", "cat.png"),
        ("<b>.png", "b.png"),
        ("照片.png", "照片.png"),
        ("", "file"),
        ("..", "file"),
        (f"{'a' * 300}.png", f"{'a' * 100}.png"),
        (f"a.{'b' * 300}", f"a.{'b' * 19}"),
    ],
)
def test_a_file_keeps_its_name_as_far_as_it_is_one(uploads: Uploads, name: str, kept: str) -> None:
    first, second = uploads.place("mine", name), uploads.place("mine", name)
    assert first.name == kept and first.parent != second.parent
    assert first.parent.parent == uploads.folder / "mine" and stat.S_IMODE(first.parent.stat().st_mode) == 0o700


def test_room_is_what_is_left_and_of_one_visitor(uploads: Uploads) -> None:
    path = saved(uploads, "mine")
    assert (uploads.room("mine"), uploads.room("theirs")) == (90, 100)
    uploads.discard("mine", str(path))
    assert uploads.room("mine") == 100


def test_an_upload_that_breaks_off_leaves_no_piece(uploads: Uploads) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the connection is gone")

    with pytest.raises(OSError, match="is gone"):
        uploads.save("mine", "a.png", Broken())
    assert [path for path in uploads.folder.rglob("*") if path.is_file()] == []
