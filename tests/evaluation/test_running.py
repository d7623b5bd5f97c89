"""Asking a benchmark's questions: conversations with the model's own answers, kills, and runs that do not mix."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event
from omnilmm.engine.options import Greedy
from omnilmm.errors import InputError
from omnilmm.evaluation.metrics import METRICS
from omnilmm.evaluation.metrics.base import Asked
from omnilmm.evaluation.rows import Row
from omnilmm.evaluation.running import ANSWERS, Run
from omnilmm.evaluation.scoring import compared, read_answers, score, summed
from omnilmm.evaluation.settings import Setting
from omnilmm.hardware import Choice
from omnilmm.model_lookup import find
from tests.ui.scripted import ScriptedEngine, finished
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SETTING = Setting(source="a test", because="it is a test")
ROWS = [
    Row(
        Asked(f"{talk}-{turn}", (f"{turn}:{talk}-{turn}",), category="odd" if talk % 2 else "even"),
        f"{talk}-{turn}",
        conversation=str(talk),
        counts=turn > 0,
    )
    for talk in range(6)
    for turn in range(3)
]


def counting(conversation: Conversation) -> Iterable[Event]:
    """Says how many answers came before, and checks that they were its own."""
    answers = [message.text for message in conversation.messages if message.role == "assistant"]
    questions = [message.text for message in conversation.messages if message.role == "user"]
    assert answers == [f"{number}:{question}" for number, question in enumerate(questions[:-1])]
    yield finished(f"{len(answers)}:{questions[-1]}")


def run(folder: Path, rows: list[Row] = ROWS, options: Greedy | None = None) -> Run:
    return Run(rows, find("built-in"), SETTING, options or Greedy(), folder)


def test_turns_of_a_conversation_have_the_models_own_answers_as_history(tmp_path: Path) -> None:
    engine = ScriptedEngine(counting)
    run(tmp_path).answer(lambda: engine, at_once=4)
    answers = read_answers(tmp_path)
    assert [answers[row.asked.index]["answer"] for row in ROWS] == [row.asked.answers[0] for row in ROWS]
    assert list(answers) == [row.asked.index for row in ROWS] and len(engine.asked) == len(ROWS)
    scored = score(ROWS, answers, METRICS["exact"])
    assert len(scored) == 12 and all(item.is_right for item in scored)  # the first turns do not count
    assert {*summed(scored, METRICS["exact"]).categories} == {"odd", "even"}


def test_turns_after_one_that_failed_have_no_answer_and_stop_nothing(tmp_path: Path) -> None:
    def failing(conversation: Conversation) -> Iterable[Event]:
        if conversation.messages[-1].text == "2-1":
            raise InputError("no_question_yet")
        return counting(conversation)

    run(tmp_path).answer(lambda: ScriptedEngine(failing), at_once=2)
    answers = read_answers(tmp_path)
    assert "2-1 of this conversation" in answers["2-2"]["error"]
    scored = score(ROWS, answers, METRICS["exact"])
    summary = summed(scored, METRICS["exact"])
    assert (
        [item.row.asked.index for item in summary.wrong]
        == ["2-1", "2-2"]
        == [item.row.asked.index for item in summary.problems]
    )
    assert summary.figures[0].value == pytest.approx(100 * 10 / 12)
    run(tmp_path).answer(lambda: ScriptedEngine(counting), at_once=2)  # those two are tried again
    better = score(ROWS, read_answers(tmp_path), METRICS["exact"])
    (difference,) = compared(better, scored, METRICS["exact"])
    assert difference.value == pytest.approx(100 * 2 / 12)


def test_a_run_that_is_stopped_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later turns wait for earlier ones in threads of their own."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("omnilmm.evaluation.running.Bar.advance", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path).answer(lambda: ScriptedEngine(counting), at_once=8)
    assert list(read_answers(tmp_path)) == ["0-0"]


KILLED = """
import sys, time
from pathlib import Path
from tests.evaluation.test_running import counting, run
from tests.ui.scripted import ScriptedEngine

def first_two(conversation):
    if conversation.messages[0].text > "2":
        time.sleep(300)  # until it is killed
    return counting(conversation)

run(Path(sys.argv[1])).answer(lambda: ScriptedEngine(first_two), at_once=2)
"""


def test_after_a_kill_nothing_is_lost_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    path = tmp_path / ANSWERS
    wait_until(lambda: program.poll() is not None or (path.is_file() and path.read_bytes().count(b"\n") == 6), 240)
    program.send_signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL, "it came to its end before"
    kept = len(read_answers(tmp_path))
    assert kept == 6
    engine = ScriptedEngine(counting)
    run(tmp_path).answer(lambda: engine, at_once=4)
    assert len(engine.asked) == len(ROWS) - kept
    assert [cells["answer"] for cells in read_answers(tmp_path).values()] == [row.asked.answers[0] for row in ROWS]


def test_other_settings_are_another_run_and_a_complete_one_loads_no_model(tmp_path: Path) -> None:
    run(tmp_path, ROWS[:1]).answer(lambda: ScriptedEngine(counting))

    def never() -> ScriptedEngine:
        raise AssertionError("a model was loaded")

    run(tmp_path, ROWS[:1]).answer(never)
    with pytest.raises(InputError, match="settings is Greedy"):
        run(tmp_path, ROWS[:1], Greedy(max_new_tokens=7)).answer(never)
    with pytest.raises(InputError, match="dtype int4"):
        Run(ROWS[:1], find("built-in"), SETTING, Greedy(), tmp_path, "dtype int4").answer(never)
    other = Run(ROWS[:1], find("built-in"), SETTING.model_copy(update={"text": "{question}!"}), Greedy(), tmp_path)
    with pytest.raises(InputError, match="another run"):
        other.answer(never)


@pytest.mark.parametrize(
    ("metric", "answer", "problem"),
    [
        ("choice", "B", ""),
        ("choice", "A", ""),
        ("choice", "either A or B", "names no single option"),
        ("choice", "Cannot determine the answer", "takes none of the options, or refuses"),
        ("yes-no", "Yes.", ""),
        ("yes-no", "It may be.", "says neither yes nor no, or both"),
        ("box", "there", "has no box"),
        ("exact", "x", ""),
    ],
)
def test_an_answer_that_cannot_be_read_is_listed(metric: str, answer: str, problem: str) -> None:
    row = Row(Asked("1", ("B",), {"A": "x1", "B": "y1"}), "?")
    cells = {"answer": answer, "reason": "end"}
    for reason, cut in (("end", ""), ("length", "cut off at the length limit")):
        summary = summed(score([row], {"1": cells | {"reason": reason}}, METRICS[metric]), METRICS[metric])
        assert [item.problem for item in summary.problems] == list(
            filter(None, ["; ".join(filter(None, (cut, problem)))])
        )
        assert bool(summary.wrong) == (answer != "B")


def test_a_dtype_that_the_machine_chose_is_that_of_the_whole_run(tmp_path: Path) -> None:
    run(tmp_path, ROWS[:1]).answer(lambda: ScriptedEngine(counting))
    before = (tmp_path / ANSWERS).read_bytes()
    other = ScriptedEngine(counting)
    other.dtype = Choice("Q4_K_M", "less memory is free now")
    with pytest.raises(InputError, match="its dtype is fp32, now it is Q4_K_M"):
        run(tmp_path).answer(lambda: other)
    assert (tmp_path / ANSWERS).read_bytes() == before and not other.asked
    lines = [json.loads(line) for line in before.splitlines()]
    del lines[0]["dtype"]  # as an earlier version wrote it
    (tmp_path / ANSWERS).write_text(json.dumps(lines[0]) + "\n")
    run(tmp_path).answer(lambda: other)
    assert len(other.asked) == len(ROWS) - 1


def test_what_is_no_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of a run's answers"):
        read_answers(tmp_path)
    (tmp_path / ANSWERS).write_text(json.dumps({"answer": 1}) + "\n")
    with pytest.raises(InputError, match="no file of a run's answers"):
        read_answers(tmp_path)
