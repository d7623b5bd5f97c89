"""Answers that a judge model on a server marks: what it is sent, what is read from its replies, and the figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event
from omnilmm.evaluation import __main__ as program
from omnilmm.evaluation.__main__ import main
from omnilmm.evaluation.judges import Judge, agrees, metric_of_judge, without_judge
from omnilmm.evaluation.metrics.base import Asked
from omnilmm.evaluation.rows import Row
from omnilmm.evaluation.scoring import score, summed
from omnilmm.evaluation.settings import benchmarks
from omnilmm.model_lookup import find
from tests.engine.remote.scripted_server import DONE, HEAD, Scripted, delta, reply, scripted
from tests.evaluation.test_rows import png, table
from tests.ui.scripted import ScriptedEngine, finished

JUDGES = {name: benchmark.judge for name, benchmark in benchmarks().items() if benchmark.judge}


def says(text: str) -> list[bytes | float | None]:
    return [HEAD + delta(text, "stop") + DONE]


def answering(conversation: Conversation) -> Iterable[Event]:
    question = conversation.messages[-1].text.strip()
    yield finished("" if "2" in question else f"It is {question[-2]}.")


@pytest.fixture
def judge() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five questions; to the one with number 2 the model has no answer."""
    monkeypatch.setattr(program, "_loaded", lambda _: ScriptedEngine(answering, find("built-in")))
    cells = {"answer": "a {right} one", "image": png(3)}
    return table(tmp_path / "mine.tsv", [{"index": n, "question": f"What is {n}?"} | cells for n in range(5)])


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def test_a_judge_marks_and_what_it_cannot_mark_is_wrong_and_asked_again(
    file: Path, judge: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file.parent / "run"
    judge.replies = [says("Rating: 1"), says("No.\n**Rating:** 0"), says("I cannot say"), [reply({"error": "no"}, 403)]]
    flags = ["--metric", "judge", "--judge-url", judge.url, "--judge-key", "secret", "--at-once", "1"]
    arguments = [str(file), "--out", str(out), *flags]
    assert main(arguments) == 0
    found = result(out)
    assert found["figures"][0]["name"] == "accuracy by the judge"
    assert found["figures"][0]["value"] == pytest.approx(20) and found["wrong"] == ["1", "2", "3", "4"]
    problems = found["not scored as they stand"]
    assert [*problems] == ["2", "3", "4"] and problems["2"] == "no answer"
    assert "no rating from 0 to 1: I cannot say" in problems["3"] and "the judge failed" in problems["4"]
    assert f"the judge was m on {judge.url[7:-3]}, and its prompt is ours" in found["same settings as published"]
    assert (
        judge.headers["authorization"] == "Bearer secret"
        and "secret" not in next(out.glob("judged-m-on-127.0.0.1-*.jsonl")).read_text()
    )
    assert len(judge.bodies) == 4  # an empty answer needs no judge
    (message,) = judge.bodies[0]["messages"]
    assert "What is 0?" in str(message) and "a {right} one" in str(message) and "It is 0." in str(message)
    assert "image" not in str(message) and judge.bodies[0]["temperature"] == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<dt>the judge<dd>No.\n**Rating:** 0</dd>" in page and "rating 0" in page

    judge.replies = [says("Rating: 1")]
    assert main([*arguments, "--resume"]) == 0
    assert len(judge.bodies) == 6  # the two that failed
    assert result(out)["wrong"] == ["1", "2"]
    assert main([*arguments, "--resume"]) == 0 and len(judge.bodies) == 6

    other = file.parent / "other"
    shutil.copytree(out, other)
    lines = (other / "answers.jsonl").read_text().replace("It is 0.", "It is x.")
    (other / "answers.jsonl").write_text(lines)
    judge.replies = [says("Rating: 0")]
    capsys.readouterr()
    assert main([*arguments, "--resume", "--compare", str(other)]) == 0
    assert len(judge.bodies) == 7 and "It is x." in str(judge.bodies[-1])  # an answer of both is judged once
    compared = result(out)
    assert compared["differences"][0]["value"] == pytest.approx(20)
    assert [(row["index"], row["other"]) for row in compared["changed"]] == [("0", "It is x.")]
    assert "1 questions whose marks differ" in capsys.readouterr().out


def test_answers_that_nobody_marks_are_compared_as_they_are(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, other = file.parent / "run", file.parent / "other"
    assert main([str(file), "--out", str(out), "--metric", "judge"]) == 0
    shutil.copytree(out, other)
    (other / "answers.jsonl").write_text((other / "answers.jsonl").read_text().replace("It is 3.", "It is x."))
    assert main([str(file), "--out", str(out), "--metric", "judge", "--resume", "--compare", str(other)]) == 0
    assert [row["index"] for row in result(out)["changed"]] == ["3"]
    assert "1 questions whose answers differ" in (out / "report.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "1 questions whose answers differ" in said and "--judge-url" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--metric", "exact", "--judge-url", "URL"], "--judge-url is for --metric judge"),
        (["--metric", "judge", "--judge-model", "m"], "--judge-url names, which is missing"),
        (["--benchmark", "docvqa-test", "--judge-url", "URL"], "No judge model can mark DocVQA, test."),
        (["--benchmark", "mmhal-bench", "--judge-url", "URL"], "needs the column image_content"),
        (["--metric", "judge", "--judge-url", "URL", "--judge-model", "x"], "x"),
    ],
)
def test_what_no_judge_can_do_is_reported_before_a_model_is_loaded(
    file: Path, judge: Scripted, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    out = file.parent / "run"
    assert main([str(file), "--out", str(out), *(judge.url if flag == "URL" else flag for flag in flags)]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not out.exists() and not judge.bodies


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("mmhal-bench", "Fine.\nRating: 4", (4, 0, "")),
        ("mmhal-bench", "From 'Rating: 2' on … **Rating**: [[3.5]]/6", (3.5, 0, "")),
        ("mmhal-bench", "rating: 7", None),
        ("mmhal-bench", "Rating: -1", None),
        ("mmhal-bench", "4", None),
        ("llava-bench", "8 6.5\nThe first is better, 2 to 1.", (6.5, 8, "")),
        ("llava-bench", "**8, 7**\n", (7, 8, "")),
        ("llava-bench", "Assistant 1: 8, assistant 2: 7", None),
        ("llava-bench", "0 7", None),
        ("llava-bench", "8 11", None),
        ("mathvista", "I read:\nExtracted answer: **B**\n", (0, 0, "B")),
        ("mathvista", "1.45", (0, 0, "1.45")),
        ("mathvista", " \n", None),
    ],
)
def test_a_reply_is_read_or_listed(name: str, text: str, read: tuple[float, float, str] | None) -> None:
    verdict = JUDGES[name].read(text)
    assert bool(verdict.problem) == (read is None)
    assert read is None or (verdict.rating, verdict.reference, verdict.answer) == read


def test_every_judge_is_told_the_answer_and_says_where_its_scale_is_from() -> None:
    assert {*JUDGES} == {"default", "llava-bench", "mathvista", "mmhal-bench"}
    for judge in JUDGES.values():
        assert "{answer}" in judge.text and "{question}" in judge.text and judge.source and judge.because


def figures(judge: Judge, replies: list[str]) -> list[tuple[str, str]]:
    """The figures where the last of the answers is empty, and the others have these verdicts."""
    rows = {str(n): Row(Asked(str(n), ("a",)), "?") for n in range(len(replies) + 1)}
    answers = {index: {"answer": f"x{index}" if int(index) < len(replies) else ""} for index in rows}
    verdicts = {(str(n), f"x{n}"): judge.read(text) for n, text in enumerate(replies)}
    metric = metric_of_judge(judge, verdicts, rows, "m")
    summary = summed(score(rows.values(), answers, metric), metric)
    return [(one.name, str(one).split(" ")[0]) for one in summary.figures]


def test_figures_are_on_the_published_scales() -> None:
    ratings = figures(JUDGES["mmhal-bench"], ["Rating: 6", "Rating: 2", "Rating: 3"])
    assert ratings == [("mean rating of 0 to 6", "2.75"), ("rated 3 or higher", "50.0")]
    relative = figures(JUDGES["llava-bench"], ["8 6", "10 4", "?"])
    # Without a mark it is out of 10: (6 + 4) / (8 + 10 + 10 + 10)
    assert relative == [("relative score", "26.3"), ("mean rating", "2.50")]


def of_mathvista(answer: str, **cells: str) -> Row:
    return Row(Asked("1", (answer,)), "?", cells=cells)


@pytest.mark.parametrize(
    ("row", "said", "right"),
    [
        (of_mathvista("8/11", choices="['3/11', '8/11']", answer_option="B"), "B", True),
        (of_mathvista("8/11", choices="['3/11', '8/11']", answer_option="B"), "(A)", False),
        (of_mathvista("8/11", choices="['3/11', '8/11']"), "it is 8/11", True),
        (of_mathvista("5", choices="[5, 6]"), "A", True),
        (of_mathvista("No", choices="['Yes', 'No']", answer_option="B"), "none", False),
        (of_mathvista("No", choices="['Yes', 'No']", answer_option="B"), "no.", True),
        (of_mathvista("1.50"), "1.5", True),
        (of_mathvista("2"), "3", False),
        (of_mathvista("[2007, 2008]"), "[2007, 2008]", True),
        (of_mathvista("Left", choices="__import__('os')"), "left", True),
    ],
)
def test_the_answer_that_a_judge_found_is_compared(row: Row, said: str, right: bool) -> None:
    assert agrees(row, said) is right


def test_a_plain_answer_needs_no_judge() -> None:
    row = of_mathvista("8/11", choices="['3/11', '8/11']")
    assert without_judge(row, "(B).") == without_judge(row, "8/11") == "B" and without_judge(row, "A or B") is None
    assert without_judge(of_mathvista("2"), " 2 ") == "2" and without_judge(of_mathvista("2"), "It is 2") is None
