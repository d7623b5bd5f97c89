"""Every published form of a row becomes the same conversation, and every bad row is named by its line and reason."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.images.pixels import open_picture
from omnilmm.training.__main__ import main
from omnilmm.training.data import conversation_of, picture_paths, read_rows
from omnilmm.training.report import histogram


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / name)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def said(
    *texts: str, names: tuple[str, str, str, str] = ("role", "content", "user", "assistant")
) -> list[dict[str, str]]:
    role, content, user, assistant = names
    return [{role: (user, assistant)[number % 2], content: text} for number, text in enumerate(texts)]


SHAREGPT = ("from", "value", "human", "gpt")
IMAGE = {"type": "image", "image": "a.png"}
SAME: list[dict[str, Any]] = [
    {"id": "0", "image": "a.png", "conversations": said("<image>\nQ?", "A.")},
    {"image": "a.png", "conversations": said("Q?", "A.")},
    {"image": {"<image_00>": "a.png"}, "conversations": said("<image_00>\nQ?", "A.")},
    {"images": ["a.png"], "messages": said("<image>Q?", "A.")},
    {"image": ["a.png"], "conversations": said("Q?", "A.", names=SHAREGPT)},
    {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "Q?"}]}, *said("", "A.")[1:]]},
    {
        "image": "a.png",
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q?"}]},
            *said("", "A.")[1:],
        ],
    },
]


def written(path: Path, rows: list[Any], *, lines: bool = False) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1))
    return path


@pytest.mark.parametrize("lines", [False, True])
def test_every_form_is_the_same_conversation(folder: Path, lines: bool) -> None:
    red = open_picture(folder / "a.png")
    wanted = Conversation().with_message("user", red, "Q?").with_message("assistant", "A.")
    found = read_rows(written(folder / "data", SAME, lines=lines))
    assert len(found) == len(SAME)
    for located in found:
        assert located.row, located.problem
        assert conversation_of(located.row, folder) == wanted
        assert picture_paths(located.row) == ("a.png",)
    if lines:
        assert [located.line for located in found] == [*range(1, len(SAME) + 1)]


def test_pictures_stand_where_their_placeholders_do(folder: Path) -> None:
    both = {"<image_00>": "a.png", "<image_01>": "b.png"}
    rows = [
        {"image": both, "conversations": said("Is <image_01> like <image_00>?", "No.", "And now?", "No.")},
        {"image": ["a.png", "b.png"], "conversations": said("Look:\n<image>", "Red.", "<image>\nAnd this?", "Blue.")},
        {"image": ["a.png", "b.png"], "system": "Be brief.", "conversations": said("Both?", "Yes.")},
        {"conversations": [{"from": "system", "value": "Be kind."}, *said("Hi", "Hello.", names=SHAREGPT)]},
    ]
    first, second, third, fourth = (
        conversation_of(located.row, folder) for located in read_rows(written(folder / "d", rows)) if located.row
    )
    red, blue = Picture(Image.new("RGB", (30, 20), "red")), Picture(Image.new("RGB", (30, 20), "blue"))
    assert first.messages[0].parts == ("Is ", blue, " like ", red, "?")
    assert [message.parts for message in second.messages[::2]] == [("Look:", red), (blue, "And this?")]
    assert third.messages[0].parts == (red, blue, "Both?") and third.system == "Be brief."
    assert fourth.system == "Be kind." and len(fourth.messages) == 2


def test_a_line_ends_only_where_json_lines_say_so(tmp_path: Path) -> None:
    """The line separators of Unicode may stand within a JSON text; a row that nests too deep is one bad row."""
    answers = [f"one{separator}two" for separator in "\u2028\u2029\x85"]
    texts = [json.dumps({"messages": said("Q?", answer)}, ensure_ascii=False) for answer in answers]
    path = tmp_path / "data.jsonl"
    path.write_bytes("\r\n".join([*texts, '{"a": ' + "[" * 200_000, texts[0]]).encode())
    found = read_rows(path)
    assert [located.line for located in found] == [1, 2, 3, 4, 5]
    assert [located.row.turns[1].content for located in found if located.row] == [*answers, answers[0]]


BAD: dict[str, tuple[Any, str]] = {
    "object": ("text", "expected an object"),
    "no conversation": ({"image": "a.png"}, "conversations"),
    "role": ({"conversations": [{"role": "doctor", "content": "x"}]}, "role"),
    "order": ({"conversations": said("Q?", "A.")[::-1]}, "message 1 is of assistant; expected user"),
    "no answer": ({"conversations": said("Q?")}, "does not end with an answer"),
    "empty answer": ({"conversations": said("Q?", " \n")}, "message 2 is an empty answer"),
    "missing": ({"image": "gone.png", "conversations": said("Q?", "A.")}, "gone.png"),
    "truncated": ({"image": "cut.png", "conversations": said("Q?", "A.")}, "picture"),
    "placeholder alone": ({"conversations": said("<image>\nQ?", "A.")}, "1 placeholders (<image>) for 0 pictures"),
    "three for two": (
        {
            "image": {"<image_00>": "a.png", "<image_01>": "b.png"},
            "conversations": said("<image_00> <image_01> <image_02>", "A."),
        },
        "3 placeholders (<image>) for 2 pictures",
    ),
    "one for two": ({"image": ["a.png", "b.png"], "conversations": said("<image>Q?", "A.")}, "1 placeholders"),
    "long": ({"conversations": said("x " * 50_000, "A.")}, "at most 2048 are possible"),
}


def test_every_bad_row_is_named_by_line_and_reason_and_nothing_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row, _ in BAD.values()] + [SAME[0]]
    path = written(folder / "bad.jsonl", rows, lines=True)
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    for number, (name, (_, reason)) in enumerate(BAD.items(), 1):
        (line,) = [line for line in lines if line.startswith(f"{path}:{number}: ")]
        assert reason in line, name
    assert not [line for line in lines if line.startswith(f"{path}:{len(rows)}: ")]
    assert lines[-1] == f"{len(BAD)} of {len(rows)} rows cannot be used."


def test_a_model_that_takes_one_picture_and_no_system_prompt_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.models.tiny import save_tiny

    model = save_tiny(tmp_path / "tiny", "2.0")
    rows = [
        {"image": ["a.png", "b.png"], "conversations": said("Q?", "A.")},
        {"system": "Be kind.", "conversations": said("Q?", "A.")},
        SAME[0],
    ]
    assert main(["check", str(written(folder / "d.jsonl", rows, lines=True)), "--model", str(model)]) == 1
    shown = capsys.readouterr().out
    assert "d.jsonl:1: " in shown and "one picture" in shown and "d.jsonl:2: " in shown and "no system prompt" in shown


def test_good_data_is_shown_with_what_is_learnt_its_lengths_and_its_memory(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilmm.training.memory.free_memory", lambda device: 60 * 2**20)
    assert main(["check", str(written(folder / "d.json", SAME)), "--batch-size", "2", "--rank", "8"]) == 0
    shown = capsys.readouterr().out
    fits = [line.rpartition("GiB")[2].strip() for line in shown.splitlines() if "--method" in line]
    assert fits == ["fits", "fits", "does not fit"]
    assert "«A.<|im_end|>»" in shown and "[36 picture tokens]" in shown and "Q?<|im_end|>" in shown
    assert f"{len(SAME)} rows, {len(SAME)} of them with pictures" in shown
    for method, trained in (("lora", "139,264"), ("qlora", "139,264"), ("full", "3,413,248")):
        assert f"--method {method}" in shown and trained in shown
    assert f"All {len(SAME)} rows are usable." in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has no rows"),
        ("[]", "has no rows"),
        ("hello\nyou", "is not JSON"),
        ('[{"a": 1},\n{"b"', "line 2"),
        ('[{"a": 1}]\n\n[{"a": 1}, {"a": 1}]', "line 3"),  # a second list, none of whose rows would be trained on
        ('[{"a": 1}] and more', "line 1"),
        (None, "read"),
    ],
)
def test_a_file_that_is_no_data_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, reason: str
) -> None:
    path = tmp_path / "data.json"
    if content is not None:
        path.write_text(content)
    assert main(["check", str(path)]) == 1
    error = capsys.readouterr().err
    assert reason in error and len(error.splitlines()) == 1


def test_a_histogram_counts_every_row_once() -> None:
    assert histogram([5]) == [(5, 5, 1)]
    bins = histogram([1, 2, 2, 30, 99])
    assert sum(count for *_, count in bins) == 5 and bins[0][0] == 1 and bins[-1][1] >= 99
    assert all(first[1] + 1 == second[0] for first, second in pairwise(bins))
