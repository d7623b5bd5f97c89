"""`chat.py --batch` on scripted engines: rows, resuming after a kill, progress."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from omnilmm.batch.listing import read_listing
from omnilmm.batch.program import PRESETS, Batch, preset
from omnilmm.batch.rows import RowFile, storable
from omnilmm.catalog import cards
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event
from omnilmm.engine.options import Greedy
from omnilmm.errors import InputError
from omnilmm.model_lookup import find
from tests.ui.scripted import ScriptedEngine, capable, finished
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def colour(conversation: Conversation) -> Iterable[Event]:
    """Says the number in the picture, which is its red."""
    (picture,) = conversation.pictures
    yield finished(f"{conversation.messages[-1].text} {picture.image.getpixel((0, 0))[0]}")  # type: ignore[index]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures, and a damaged one."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(8):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(pictures / f"{number}.png")
    (pictures / "5b.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    return pictures


EXPECTED = [f"Red? {number}" for number in (0, 1, 2, 3, 4, 5)] + [""] + ["Red? 6", "Red? 7"]


def batch(engine: ScriptedEngine, folder: Path, out: Path | None, **more: object) -> Batch:
    return Batch(engine, read_listing(folder, "Red?").entries, Greedy(), out, at_once=3, stderr=io.StringIO(), **more)  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_a_damaged_picture_is_a_row_with_its_error_and_alone_is_tried_again(
    folder: Path, tmp_path: Path, name: str
) -> None:
    out, engine = tmp_path / name, ScriptedEngine(colour)
    assert batch(engine, folder, out).run() == 1
    assert [row["answer"] for row in rows(out)] == EXPECTED and len(engine.asked) == 8
    assert "damaged" in rows(out)[6]["error"] and rows(out)[6]["picture"] == "5b.png"
    assert not any(row.get("error") for row in rows(out) if row["picture"] != "5b.png")
    Image.new("RGB", (8, 8), (55, 0, 0)).save(folder / "5b.png")
    assert batch(engine, folder, out).run() == 0
    assert [row["answer"] for row in rows(out)] == [*EXPECTED[:6], "Red? 55", *EXPECTED[7:]] and len(engine.asked) == 9
    assert batch(engine, folder, out).run() == 0 and len(engine.asked) == 9  # nothing is left to be asked
    with pytest.raises(InputError, match="its options is Greedy"):
        Batch(engine, read_listing(folder, "Red?").entries, Greedy(max_new_tokens=5), out).run()
    for another in ({"system": "Be brief."}, {"loading": "dtype auto, max_slices=36"}):
        with pytest.raises(InputError, match="answers of another run"):
            batch(engine, folder, out, **another).run()
    assert [row["answer"] for row in rows(out)] == [*EXPECTED[:6], "Red? 55", *EXPECTED[7:]]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_a_name_that_is_not_utf_8_is_escaped_in_its_row_and_stops_nothing(
    folder: Path, tmp_path: Path, name: str
) -> None:
    odd, out, engine = os.fsdecode(b"5b-\xff.png"), tmp_path / name, ScriptedEngine(colour)
    (folder / "5b.png").rename(folder / odd)  # damaged: its error names it, too
    for _ in range(2):
        assert batch(engine, folder, out).run() == 1
        assert [row["answer"] for row in rows(out)] == EXPECTED and len(engine.asked) == 8
        assert rows(out)[6]["picture"] == r"5b-\xff.png" and rows(out)[6]["error"]
    Image.new("RGB", (8, 8), (55, 0, 0)).save(folder / odd)
    for _ in range(2):
        assert batch(engine, folder, out).run() == 0 and len(engine.asked) == 9
    assert rows(out)[6]["picture"] == r"5b-\xff.png" and rows(out)[6]["answer"] == "Red? 55"
    stdout = io.StringIO()
    batch(engine, folder, None, stdout=stdout).run()
    assert stdout.getvalue().encode() and storable("a\ud800") == r"a\ud800"


def test_without_a_file_rows_are_json_lines_and_progress_stands_apart(folder: Path) -> None:
    stdout = io.StringIO()
    asked = batch(ScriptedEngine(colour, capable()), folder, None, stdout=stdout, system="Be brief.")
    assert asked.run() == 1
    assert [json.loads(line)["answer"] for line in stdout.getvalue().splitlines()] == EXPECTED
    assert isinstance(asked.stderr, io.StringIO) and "9/9" in asked.stderr.getvalue()
    assert "1 failed" in asked.stderr.getvalue()
    assert isinstance(asked.engine, ScriptedEngine) and asked.engine.asked[0][0].system == "Be brief."


KILLED = """
import sys, time
from pathlib import Path
from tests.batch.test_program import batch, colour
from tests.ui.scripted import ScriptedEngine

def first_three(conversation):
    (picture,) = conversation.pictures
    if picture.image.getpixel((0, 0))[0] > 2:
        time.sleep(300)  # until it is killed
    return colour(conversation)

batch(ScriptedEngine(first_three), Path(sys.argv[1]), Path(sys.argv[2])).run()
"""


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_after_a_kill_nothing_is_lost_and_nothing_is_asked_twice(folder: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    program = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(out)], cwd=ROOT)
    lines = 3 + (out.suffix == ".csv")
    wait_until(lambda: program.poll() is not None or (out.is_file() and out.read_bytes().count(b"\n") == lines), 240)
    program.send_signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL, "it came to its end before"
    kept = [row for row in rows(out) if not row.get("error")]
    assert len(kept) == 3
    engine = ScriptedEngine(colour)
    assert batch(engine, folder, out).run() == 1
    assert [row["answer"] for row in rows(out)] == EXPECTED
    assert len(engine.asked) == 8 - len(kept)
    assert rows(out)[: len(kept)] == kept


def test_ctrl_c_leaves_the_rows_so_far(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, append = tmp_path / "answers.jsonl", RowFile.append

    def interrupted(self: RowFile, row: dict[str, object]) -> None:
        append(self, row)
        if len(self.rows) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RowFile, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch(ScriptedEngine(colour), folder, out).run()
    assert [row["answer"] for row in rows(out)] == EXPECTED[:3]
    engine = ScriptedEngine(colour)
    assert batch(engine, folder, out).run() == 1 and len(engine.asked) == 5


def test_a_preset_is_a_question_in_the_words_that_a_model_knows() -> None:
    assert preset(find("built-in"), "ocr") == "What does it say?"
    assert preset(cards()["minicpm-v-2.6"], "ocr") == PRESETS["ocr"]
