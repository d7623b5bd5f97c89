"""`python -m omnilmm.evaluation` on the real built-in model: figures, report, tables, comparison."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from built_in import evaluation
from built_in.__main__ import BUILT_IN
from built_in.benchmark import write
from built_in.evaluation import examine
from omnilmm.api.app import application
from omnilmm.archive import to_json
from omnilmm.catalog import cards
from omnilmm.conversation import Conversation
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.evaluation import __main__ as program
from omnilmm.evaluation.__main__ import main, parser
from omnilmm.evaluation.rows import read_rows
from omnilmm.evaluation.scoring import read_answers
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import samples
from tests.api.serving import served
from tests.evaluation.test_rows import table
from tests.ui.scripted import ScriptedEngine, saying

BAD = 'a <b>"wrong"</b> answer'


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return load_engine()


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples with their right answers, one with a wrong answer, and one whose picture is damaged."""
    rows = [
        {
            "index": number,
            "question": sample.question,
            "answer": sample.answer,
            "category": "colour" if number < 2 else "other",
            "image": base64.b64encode(sample.picture.read_bytes()).decode(),
        }
        for number, sample in enumerate(samples()[:4])
    ]
    rows += [rows[0] | {"index": 8, "answer": BAD, "image": "0"}]
    rows += [rows[0] | {"index": 9, "image": base64.b64encode(b"no picture " * 10).decode()}]
    return table(tmp_path_factory.mktemp("benchmark") / "mine.tsv", rows)


@pytest.fixture(scope="module")
def folder(questions: Path) -> Path:
    """A run of them."""
    out = questions.parent / "run"
    assert main([str(questions), "--out", str(out)]) == 0
    return out


def test_the_report_has_the_figures_and_the_wrong_answers(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    (accuracy,) = result["figures"]
    assert accuracy["value"] == pytest.approx(100 * 4 / 6) and accuracy["low"] < 60 < 75 < accuracy["high"]
    assert result["categories"]["other"]["value"] == 100 and result["categories"]["colour"]["units"] == 4
    assert result["wrong"] == ["8", "9"] and [*result["not scored as they stand"]] == ["9"]
    assert result["same settings as published"].startswith("no, because a file of one's own")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;&quot;wrong&quot;&lt;/b&gt; answer" in page and BAD not in page
    assert len(re.findall("<img alt='' src='data:image/jpeg;base64,", page)) == 1  # the other cannot be read
    assert "http" not in page.replace("http-equiv", "") and "default-src 'none'" in page


def test_the_table_is_vlmevalkits(folder: Path) -> None:
    with (folder / "built-in_mine.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [*rows[0]] == ["index", "question", "answer", "category", "prediction"]
    assert [row["index"] for row in rows] == ["0", "1", "2", "3", "8", "9"]
    assert [row["prediction"] for row in rows[:4]] == [sample.answer for sample in samples()[:4]]
    assert rows[-1]["prediction"] == ""


def test_a_run_goes_on_only_if_told_so_and_loads_nothing_if_all_is_there(
    questions: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(questions), "--out", str(folder)]) == 1
    assert "go on with it by --resume" in capsys.readouterr().err
    assert main([str(questions), "--out", str(folder), "--resume", "--max-slices", "1"]) == 1
    assert "answers of another run" in capsys.readouterr().err
    monkeypatch.setattr(program, "DownloadBar", None)  # a model that is loaded comes with one
    assert main([str(questions), "--out", str(folder), "--resume", "--limit", "5"]) == 0
    said = capsys.readouterr().out
    assert "accuracy: 80.0" in said and "5 questions" in said
    assert (
        "only the first 5 questions" in json.loads((folder / "result.json").read_text())["same settings as published"]
    )


def test_two_runs_are_compared_question_by_question(
    questions: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    lines = [json.loads(line) for line in (other / "answers.jsonl").read_text().splitlines()]
    lines[1]["answer"] = lines[2]["answer"] = "nothing"
    (other / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = [str(questions), "--out", str(folder), "--resume", "--limit", "5", "--compare"]
    assert main([*arguments, str(other)]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["differences"][0]["value"] == pytest.approx(40) and result["compared with"] == str(other)
    assert [(row["index"], row["other"]) for row in result["changed"]] == [("1", "nothing"), ("2", "nothing")]
    assert "2 questions whose marks differ" in (folder / "report.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "difference: 40.0" in said and "different ways" not in said
    others = (other / "answers.jsonl").read_text().replace("dtype auto", "dtype int8")
    (other / "answers.jsonl").write_text(others)
    assert main([*arguments, str(other)]) == 0
    apart = f"asked in different ways: this run by dtype auto, {other} by dtype int8"
    assert apart in capsys.readouterr().out and apart in (folder / "report.html").read_text(encoding="utf-8")
    result = json.loads((folder / "result.json").read_text())
    assert result["settings that differ"] == {"this": "dtype auto", "other": "dtype int8"}
    assert main([*arguments, str(tmp_path)]) == 1
    assert "no file of a run's answers" in capsys.readouterr().err


def test_answers_for_a_judge_are_exported(questions: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [str(questions), "--out", str(folder), "--resume", "--limit", "5", "--metric", "judge"]
    assert main(shown) == 0
    lines = [json.loads(line) for line in (folder / "judge.jsonl").read_text().splitlines()]
    assert lines[4]["reference"] == [BAD] and lines[0]["prediction"] == samples()[0].answer
    assert "need a judge model" in capsys.readouterr().out
    assert json.loads((folder / "result.json").read_text())["wrong"] is None  # nobody has marked them
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "wrong answers" not in page and "The answers are not marked" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--metric", "chair"], "--words FILE"),
        (["--compare", "/no/such"], "no file of a run's answers"),
        (["--max-new-tokens", "0"], "max_new_tokens must be"),
        (["--model", "bilt-in"], "Did you mean"),
        (["--mode", "beam", "--top-k", "3"], "No option of beam: top_k"),
    ],
)
def test_what_cannot_be_is_reported_before_a_model_is_loaded(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main([str(questions), "--out", str(tmp_path / "run"), *arguments]) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "begins"),
    [
        ([], "yes: the makers' class in VLMEvalKit"),
        (["--dtype", "int4"], "no, because the weights were quantised to int4"),
        (["--mode", "greedy", "--limit", "2"], "no, because only the first 2 questions were asked; the decoding"),
        (["--metric", "exact"], "no, because the metric"),
        (["--max-slices", "36"], "no, because pictures were cut into at most 36 slices"),
        (["--revision", "v1"], "no, because the revision v1"),
        (["--model", "minicpm-v-1"], "no, because in 2024-02"),
    ],
)
def test_it_is_said_whether_the_settings_are_the_published_ones(questions: Path, flags: list[str], begins: str) -> None:
    args = parser().parse_args([str(questions), "--benchmark", "mme", "--model", "omnilmm-12b", *flags])
    assert program._same(args, program._plan(args)).startswith(begins)


@pytest.mark.parametrize(
    ("benchmark", "says"),
    [
        ("mmmu", "published: 40.7 (split validation); measured here: 50.0 ("),
        ("object-halbench", "published: 9.7 (CHAIRs, published as 100 − CHAIRs = 90.3); measured here: 100.0 ("),
        ("mme", "published: 1935.8; same settings: yes"),
    ],
)
def test_a_published_figure_stands_beside_what_it_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, benchmark: str, says: str
) -> None:
    splits, letters = ["dev", "dev", "validation", "validation"], "AAAB"
    rows = [
        {"index": n, "question": "?", "split": split, "A": "x", "B": "y", "answer": letter, "category": "color"}
        for n, (split, letter) in enumerate(zip(splits, letters, strict=True))
    ]
    (tmp_path / "words.txt").write_text("dog\ncat\n")
    monkeypatch.setattr(program, "_loaded", lambda _: ScriptedEngine(saying("A dog"), cards()["omnilmm-12b"]))
    flags = ["--benchmark", benchmark, "--model", "omnilmm-12b", "--words", str(tmp_path / "words.txt")]
    assert main([str(table(tmp_path / "a.tsv", rows)), "--out", str(tmp_path / "run"), *flags]) == 0
    assert says in capsys.readouterr().out
    published = says.split("; same")[0].removeprefix("published: ")
    assert published in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_model_named_together_with_its_adapter_is_not_asked_as_published(
    questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = cards()["omnilmm-12b"]
    card = card.model_copy(update={"name": f"{card.name} + runs/mine", "adapter": "runs/mine"})
    monkeypatch.setattr(program, "find", lambda _: card)
    args = parser().parse_args([str(questions), "--benchmark", "mme", "--model", card.name])
    assert program._same(args, program._plan(args)) == "no, because an adapter was loaded"


def test_the_built_in_models_card_is_what_this_program_measures(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same question, answer and mark of each ability as `built_in evaluate`, with and without slices."""
    monkeypatch.setattr(evaluation, "_batch_of", lambda _: 1)  # no more lessons than needed
    file, out = tmp_path / "built-in.tsv", tmp_path / "run"
    assert write(file, engine.processor.config.slicing_rules, questions=1) == len(evaluation.ROWS)
    monkeypatch.setattr(program, "_loaded", lambda _: engine)
    assert main([str(file), "--model", str(BUILT_IN), "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    scored = {row.asked.category: row.asked.index for row in read_rows(file) if row.counts}
    answers = {index: cells["answer"] for index, cells in read_answers(out).items()}
    right = 0
    for row, (item,) in examine(engine.model.eval(), engine.processor, questions=1):
        assert answers[scored[row.name]] == item.answer, row.name
        assert result["categories"][row.name]["value"] == 100 * item.is_right, row.name
        right += item.is_right
    assert result["figures"][0]["value"] == pytest.approx(100 * right / len(scored)) and 0 < right < len(scored)


def test_a_model_on_a_server_is_scored_by_the_same_command(
    engine: LocalEngine, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(application(engine)) as address:
        flags = ["--engine-url", f"{address}/v1", "--out", str(tmp_path), "--limit", "4"]
        assert main([str(questions), *flags]) == 0
        assert main([str(questions), *flags, "--resume", "--dtype", "int4"]) == 1  # of no effect there
    result = json.loads((tmp_path / "result.json").read_text())
    assert (
        result["figures"][0]["value"] == 100 and "a server renders the prompt" in result["same settings as published"]
    )
    assert "--dtype" in capsys.readouterr().err


def test_an_exported_conversation_is_a_benchmark(tmp_path: Path) -> None:
    talk = Conversation()
    for sample in samples()[:2]:
        talk = talk.with_message("user", open_picture(sample.picture), sample.question)
        talk = talk.with_message("assistant", sample.answer)
    (tmp_path / "talk.json").write_text(to_json(talk))
    assert main([str(tmp_path / "talk.json"), "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["figures"][0]["value"] == 100 and result["questions"] == 2 and result["wrong"] == []
