"""A training as its user sees it: learnt, resumed, stopped, and talked to."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from omnilmm.catalog import ROOT
from omnilmm.errors import InputError
from omnilmm.hardware import AS_ASKED, Choice
from omnilmm.training import forgetting
from omnilmm.training import run as running
from omnilmm.training.__main__ import main
from omnilmm.training.examples import Examples
from omnilmm.training.flags import arguments_of
from omnilmm.training.trainer import FineTuner, last_state
from tests.images.corpus import drawing
from tests.models.tiny import save_tiny

FEW = ("--batch-size", "2", "--accumulate", "2", "--epochs", "4", "--rank", "4", "--learning-rate", "1e-2")

# The programs as a launcher starts them, but imported once: each run is a fork per process. In the step `stop`, if
# there is one, all of its processes are killed from outside Python.
LAUNCHED = """
import json, os, signal, socket, sys
from omnilmm.engine.adapters import import_peft
from omnilmm.training import run
from omnilmm.training.__main__ import main
from omnilmm.training.trainer import FineTuner

import_peft()
step = FineTuner.training_step

def process(rank, world, port, stop, arguments):
    if world > 1:
        named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in named.items()}}
    def stopping(self, *given, **also):
        if self.state.global_step == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *given, **also)
    FineTuner.training_step = stopping
    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)

for world, stop, arguments in json.loads(sys.argv[1]):
    with socket.socket() as reserved:  # bound, so that nobody else is given its port, which torch may listen on
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        children = []
        for rank in range(world):
            if not (child := os.fork()):
                process(rank, world, reserved.getsockname()[1], stop, arguments)
            children.append(child)
        print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flush=True)
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten rows: eight about two pictures, two of text alone."""
    for number in range(2):
        drawing(size=(60 + 20 * number, 40)).save(tmp_path / f"{number}.png")
    rows: list[dict[str, Any]] = [
        {"image": f"{number % 2}.png", "conversations": _said(f"Q{number}?", "ab"[number % 2] * 3)}
        for number in range(8)
    ]
    rows += [{"messages": _said(f"T{number}?", "c")} for number in range(2)]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows))
    return path


def _said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def train(model: Path, data: Path, out: Path, *flags: str) -> int:
    return main(given(model, data, out, *flags))


def given(model: Path, data: Path, out: Path, *flags: str) -> list[str]:
    return ["train", "--model", str(model), "--data", str(data), "--out", str(out), *FEW, *flags]


def weights(folder: Path, name: str = "adapter_model.safetensors") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / name)
    return found


@pytest.fixture(autouse=True)
def streams() -> Iterator[None]:
    """The Trainer sets the seed of everything."""
    with torch.random.fork_rng():
        yield


def test_runs_that_were_killed_go_on_as_if_they_had_not_been(tiny: Path, data: Path, tmp_path: Path) -> None:
    """One with dropout, so that the random state counts, and the features of pictures kept or not; and one of two
    processes, which do the work of one that accumulates twice as many batches."""
    flags = ("--epochs", "2", "--dropout", "0.2", "--save-steps", "2", "--eval-data", str(data))
    even, kept = tmp_path / "even.json", tmp_path / "kept.json"
    rows = json.loads(data.read_text())
    even.write_text(json.dumps(rows[2:]))  # as many batches for each process
    kept.write_text(json.dumps(rows[-1:]))
    killed, two, plain = tmp_path / "killed", tmp_path / "two", ("--epochs", "3", "--checkpointing")
    each = given(tiny, even, two, *plain, "--accumulate", "1", "--save-steps", "2", "--keep-eval", str(kept))
    runs = [(1, 3, given(tiny, data, killed, *flags)), (2, 3, each), (2, None, each)]
    command = [sys.executable, "-c", LAUNCHED, json.dumps(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if re.fullmatch(r"\[[-\d, ]+\]", line)]  # Gloo prints, too
    ended = [json.loads(line) for line in lines]
    assert (ended[0], ended[2:]) == ([-9], [[0, 0]]), done.stderr  # the other of two may end by the first one's end
    assert 0 not in ended[1] and done.stdout.count("Saved in") == 1

    state = last_state(killed)
    assert state and not (killed / "adapter_model.safetensors").exists()
    half = weights(state)
    with (killed / "trainer_log.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')  # cut off in the middle of a line
    (killed / "checkpoint-99").mkdir()  # a state that was not completely written
    assert train(tiny, data, tmp_path / "straight", *flags) == 0
    assert train(tiny, data, killed, *flags, "--feature-cache", "1") == 0
    straight, resumed = weights(tmp_path / "straight"), weights(killed)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())
    assert any(not torch.equal(tensor, half[name]) for name, tensor in straight.items())
    assert logged(tmp_path / "straight") == logged(killed) and logged(killed)[-1][0] == 6
    with Image.open(killed / "loss.png") as curve:
        assert curve.size[0] > 300

    assert train(tiny, even, tmp_path / "one", *plain) == 0
    one, both = weights(tmp_path / "one"), weights(two)
    assert all(torch.allclose(tensor, both[name], atol=1e-5) for name, tensor in one.items())
    assert [step for step, *_ in logged(two)] == [1, 2, 3, 4, 5, 6]  # from one of them
    assert {path.name for path in two.iterdir()} >= {"loss.png", "report.md", "finished.json", "checkpoint-6"}


def logged(out: Path) -> list[tuple[int, float | None, float | None]]:
    """Step, loss and loss on the evaluation data of every entry of the log."""
    entries = map(json.loads, (out / "trainer_log.jsonl").read_text().splitlines())
    return [(entry["step"], entry.get("loss"), entry.get("eval_loss")) for entry in entries]


def test_a_finished_run_says_so_and_one_with_other_settings_is_refused(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, encode, encoded = tmp_path / "out", Examples._pixels, list[int]()
    monkeypatch.setattr(Examples, "_pixels", lambda self, row: (encoded.append(row.line), encode(self, row))[1])
    assert train(tiny, data, out, "--eval-data", str(data), "--epochs", "1") == 0
    assert len(encoded) == 2  # each picture once, for all rows about it
    before = (out / "adapter_model.safetensors").read_bytes()
    told = capsys.readouterr()
    assert f"--adapter {out}" in told.out
    assert re.search(r"3/3 \[\d+:\d+<\d+:\d+, .* loss=[\d.]+, eval_loss=[\d.]+, tokens/s=\d+\]", told.err)
    assert train(tiny, data, out, "--epochs", "1") == 0
    assert "is finished" in capsys.readouterr().out
    assert train(tiny, data, out, "--epochs", "1", "--rank", "8") == 1
    error = capsys.readouterr().err
    assert "other settings (alpha, rank)" in error and len(error.splitlines()) == 1
    assert train(tiny, data, tmp_path, "--epochs", "1") == 1
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert (out / "adapter_model.safetensors").read_bytes() == before


def test_whatever_the_weights_depend_on_is_a_setting_and_the_adapter_names_the_commit(
    tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that went on with another of these was a mixture of two trainings."""
    commits = [tmp_path / "models--me--tiny" / "snapshots" / (letter * 40) for letter in "ab"]
    for folder in commits:
        shutil.copytree(tiny, folder)
    zero = tmp_path / "zero.json"
    zero.write_text("{}")

    def run(folder: Path = commits[0], *flags: str) -> running.Run:
        given = ["train", "--model", str(folder), "--data", str(data), "--out", str(tmp_path / "out"), *flags]
        return running.Run(arguments_of(given))

    def changed(patch: Callable[[pytest.MonkeyPatch], None], *given: Any) -> Any:
        with monkeypatch.context() as context:
            patch(context)
            again = run(*given)
            with pytest.raises(InputError) as refused:
                again.begin()
        return refused.value.parameters["changed"]

    monkeypatch.setattr(running, "resolve_dtype", lambda *_: Choice("fp32", AS_ASKED))
    run().begin()
    run().begin()
    assert changed(lambda patch: patch.setenv("WORLD_SIZE", "2")) == ("world_size",)
    assert changed(lambda patch: patch.setattr(running, "_device", lambda _: "mps")) == ("device",)
    assert changed(lambda patch: patch.setattr(running, "resolve_dtype", lambda *_: Choice("bf16", AS_ASKED))) == (
        "dtype",
    )
    monkeypatch.setattr("omnilmm.training.launch.find_spec", lambda name: True)
    assert changed(lambda patch: None, commits[0], "--deepspeed", str(zero)) == ("deepspeed",)
    assert changed(lambda patch: None, commits[1]) == ("model", "revision")
    assert train(commits[1], data, tmp_path / "other", "--epochs", "1") == 0
    assert json.loads((tmp_path / "other" / "adapter_config.json").read_text())["revision"] == "b" * 40


def test_all_of_a_model_is_trained_saved_and_loaded(tiny: Path, data: Path, tmp_path: Path) -> None:
    from omnilmm.engine.loading import load_engine

    out = tmp_path / "whole"
    assert (
        train(tiny, data, out, "--method", "full", "--epochs", "2", "--checkpointing", "--learning-rate", "1e-3") == 0
    )
    one, other = load_engine(str(out)).model.state_dict(), load_engine(str(tiny)).model.state_dict()
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed and not [name for name in changed if not name.startswith("llm.")]


def test_a_resampler_over_half_precision_learns_in_single_precision_also_when_resumed(
    tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps this small are rounded away in bfloat16, in which a model of real size is loaded."""
    monkeypatch.setattr(running, "resolve_dtype", lambda *_: Choice("bf16", AS_ASKED))
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps({"image": "0.png", "conversations": _said("Q0?", "a")}))
    flags = ("--epochs", "1", "--tune-resampler", "--tune-vision", "--learning-rate", "1e-5", "--keep-eval", str(kept))
    flags += ("--save-steps", "2")
    assert train(tiny, data, tmp_path / "straight", *flags) == 0
    with monkeypatch.context() as patch:
        fails_at(patch, 2, KeyboardInterrupt())
        assert train(tiny, data, tmp_path / "out", *flags) == 1
    assert train(tiny, data, tmp_path / "out", *flags) == 0
    resumed, straight, before = (
        weights(tmp_path / "out"),
        weights(tmp_path / "straight"),
        weights(tiny, "model.safetensors"),
    )
    for name in ("query", "proj", "attn.in_proj_weight"):
        trained = resumed[f"base_model.model.resampler.{name}"]
        assert trained.dtype == torch.float32 and not torch.equal(
            trained, before[f"resampler.{name}"].bfloat16().float()
        )
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())


def test_bad_rows_stop_a_training_before_anything_is_written(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.png").unlink()
    assert train(tiny, data, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "4 of 10 rows cannot be used" in error and "data.json:1: No such picture" in error
    assert len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_old_data_is_checked_mixed_in_and_a_setting_like_the_new(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, out = tmp_path / "old.jsonl", tmp_path / "out"
    rows = [json.dumps({"messages": _said("O?", answer)}) for answer in ("x", "")]

    def refused(expected: str) -> bool:
        assert train(tiny, data, out, "--replay", str(old)) == 1
        error = capsys.readouterr().err
        return expected in error and len(error.splitlines()) == 1

    assert refused(f"{old}") and not out.exists()  # no such file
    old.write_text("")
    assert refused("has no rows") and not out.exists()
    old.write_text("\n".join(rows))
    assert refused(f"1 of 2 rows cannot be used; nothing was trained. {old}:2:") and not out.exists()
    old.write_text(rows[0])
    given = ["train", "--model", str(tiny), "--data", str(data), "--out", str(out), *FEW, "--replay", str(old)]
    run = running.Run(arguments_of(given))
    assert [example.row.turns[1].content for example in run.train_examples] == [*["aaa", "bbb"] * 4, "c", "c", "x"]
    run.begin()
    old.write_text(f"{rows[0]}\n{rows[0]}")
    assert refused("other settings (replay)")
    assert train(tiny, data, out) == 1 and "other settings (replay)" in capsys.readouterr().err


def fails_at(monkeypatch: pytest.MonkeyPatch, step: int, failure: BaseException | float) -> None:
    """The loss of a step becomes a number of its own, or computing it fails."""
    compute = FineTuner.compute_loss

    def failing(self: FineTuner, *arguments: Any, **named: Any) -> Any:
        loss = compute(self, *arguments, **named)
        if self.state.global_step != step:
            return loss
        if isinstance(failure, BaseException):
            raise failure
        return loss * failure

    monkeypatch.setattr(FineTuner, "compute_loss", failing)


def test_a_loss_that_is_no_number_stops_it_and_the_weights_before_stay(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        fails_at(patch, 4, float("nan"))
        assert train(tiny, data, out, "--epochs", "2", "--save-steps", "2") == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(error) == 1 and "nan after step 4" in error[0] and "--learning-rate" in error[0]
    kept, state = weights(out / "last"), weights(out / "checkpoint-4")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state.items())
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())
    assert train(tiny, data, out, "--epochs", "2", "--save-steps", "2") == 0  # goes on from the state before


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may grow beyond, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_the_state_before_stays(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full for every file, for the log, for all but the log, and for the largest alone; then there is room again."""
    out, full = tmp_path / "out", tmp_path / "full"
    assert train(tiny, data, out, "--epochs", "1") == 0
    size = max(file.stat().st_size for file in out.rglob("*") if file.is_file())
    for limit in (16, 100, 2000, size // 2):
        settings = full / "training.json"
        if limit == 100:
            full.mkdir(exist_ok=True)
            shutil.copy(out / settings.name, settings)
        capsys.readouterr()
        with files_of_at_most(limit):
            assert train(tiny, data, full, "--epochs", "1") == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
        assert len(error) == 1 and "cannot be written" in error[0] and "free some space" in error[0], limit
        assert last_state(full) is None and not list(full.glob("checkpoint-*")) and not (full / "last").exists()
        assert settings.exists() is (limit > 16) and not list(full.glob("*.part"))
    assert train(tiny, data, full, "--epochs", "1") == 0
    assert all(torch.equal(tensor, weights(full)[name]) for name, tensor in weights(out).items())


def test_a_full_disk_hides_no_loss_that_is_no_number(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(monkeypatch, 1, float("nan"))
    with files_of_at_most(2000):
        assert train(tiny, data, tmp_path / "out") == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(error) == 1 and "nan after step 1" in error[0]


def test_the_report_is_written_however_often_a_run_is_stopped_and_is_about_the_questions_given_now(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked, shares = tmp_path / "out", tmp_path / "asked.jsonl", forgetting.shares
    row = json.dumps({"messages": _said("T?", "c")})
    flags = ("--epochs", "1", "--eval-data", str(asked), "--keep-eval", str(asked))
    found: list[list[int]] = []

    def stopped_at(call: int) -> Any:
        def asking(*arguments: Any) -> forgetting.Shares:
            counts = {name: count for name, (_, count) in shares(*arguments).items()}
            found.append([*counts.values()])
            if len(found) == call:
                raise KeyboardInterrupt
            return {name: (1.0 / len(found), count) for name, count in counts.items()}

        return asking

    asked.write_text(row)
    monkeypatch.setattr(forgetting, "shares", stopped_at(2))  # while the questions are asked again, at the end
    assert train(tiny, data, out, *flags) == 1
    assert (out / "adapter_model.safetensors").exists() and not (out / "report.md").exists()
    asked.write_text(f"{row}\n{row}")
    assert train(tiny, data, out, *flags) == 0
    assert found == [[1, 1], [1, 1], [2, 2], [2, 2]]  # asked again before, as the questions are others
    assert "| new task | 2 | 0.333 | 0.250 | -0.083 |" in (out / "report.md").read_text()
    assert "is finished" not in capsys.readouterr().out
    assert train(tiny, data, out, *flags) == 0 and len(found) == 4
    (out / "finished.json").unlink()
    assert train(tiny, data, out, *flags) == 0 and len(found) == 5  # the same questions: only afterwards
    (out / "finished.json").unlink()
    (out / "before.json").write_text('{"asked"')  # cut off
    assert train(tiny, data, out, *flags) == 0 and len(found) == 7


def test_too_little_memory_names_the_flags_that_need_less(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(monkeypatch, 1, torch.OutOfMemoryError("CUDA out of memory"))
    assert train(tiny, data, tmp_path / "out", "--no-checkpointing") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    for flag in ("--batch-size 1 --accumulate 4", "--method qlora", "--checkpointing", "--max-slices"):
        assert flag in error


def test_the_flags_of_the_published_scripts_are_understood() -> None:
    from omnilmm.training.flags import parser, schedule_of, tuning_of

    published = (
        "--model_name_or_path m --data_path d --eval_data_path e --output_dir o --model_max_length 1024 "
        "--num_train_epochs 5 --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --learning_rate 1e-5 "
        "--lora_r 64 --lora_alpha 64 --lora_dropout 0.05 --max_slice_nums 4 --tune_vision --warmup_ratio 0.01 "
        "--save_steps 100 --gradient_checkpointing"
    )
    args = parser().parse_args(["train", *published.split()])
    assert (args.model, str(args.data), args.max_length, args.max_slices) == ("m", "d", 1024, 4)
    schedule, tuning = schedule_of(args), tuning_of(args)
    assert (schedule.epochs, schedule.accumulate, schedule.learning_rate, schedule.save_steps) == (5, 4, 1e-5, 100)
    assert (tuning.rank, tuning.alpha, tuning.dropout, tuning.tune_vision) == (64, 64, 0.05, True)


PUBLISHED_FLAGS = "train --data_path d --output_dir o --tune_vision true --gradient_checkpointing true --bf16 true "


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--use_lora true --tune_llm false --q_lora true", ("qlora", True, True)),
        ("--use_lora true --lr_scheduler_type cosine --report_to tensorboard --do_train", ("lora", True, True)),
        ("--tune_llm=True --use_lora=false --tune_vision=false --gradient_checkpointing False", ("full", False, False)),
        ("--tune_llm true --use_lora true", "one of the two"),
        ("--tune_llm false", "always trained"),
        ("--tune_vision maybe", "--tune_vision is true or false, got maybe"),
        ("--max_steps 10 --weight_decay 0.1 --lr_scheduler_type linear", "--max_steps, --weight_decay and --lr_"),
    ],
)
def test_the_published_scripts_are_understood_as_they_are_written(
    given: str, expected: tuple[str, bool, bool] | str, caplog: pytest.LogCaptureFixture
) -> None:
    from omnilmm.errors import OptionsError
    from omnilmm.training.flags import tuning_of

    if isinstance(expected, str):
        with pytest.raises(OptionsError, match=re.escape(expected)):
            arguments_of([*PUBLISHED_FLAGS.split(), *given.split()])
        return
    args = arguments_of([*PUBLISHED_FLAGS.split(), *given.split()])
    assert (args.method, tuning_of(args).tune_vision, args.checkpointing) == expected
    (said,) = caplog.messages
    assert "Without effect" in said and "--bf16" in said and ("--do_train" in said) is ("--do_train" in given)
