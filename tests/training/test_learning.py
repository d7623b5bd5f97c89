"""The built-in model learns what it did not know, keeps what it knew, and is talked to in the browser.

The task is in `parts.py`, the training in `benchmarks/forgetting.py`. One run, of which everything else here is about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect

import web_demo
from benchmarks import forgetting
from omnilmm.training.__main__ import main
from omnilmm.ui.startup import offer_of, provider_of
from tests.pages.conftest import profiles, visit
from tests.pages.visitor import Site, Visitor, serve
from tests.training.parts import QUESTION

__all__ = ["profiles", "visit"]  # fixtures

KEPT = ("colour", "shape")
ASKED = 100  # of each: one of them is 0.01
UNSEEN = 30  # 29 right fail with a probability of 95 % where 0.85 were learnt; of twice as many, 57 where 0.88 were
NAMES = ("merged (MiniCPM-V 2.6)", "Built-in model + parts")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the adapter, with the data beside it, and what was printed."""
    folder = tmp_path_factory.mktemp("learning")
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(forgetting, "ASKED", ASKED)
        patch.setattr(forgetting, "UNSEEN", UNSEEN)
        return folder / "parts", forgetting.learn(folder, KEPT, 200, 60, ("--learning-rate", "1.5e-3"))


def test_the_new_task_is_learnt_and_with_old_data_mixed_in_little_is_forgotten(run: tuple[Path, str]) -> None:
    folder, printed = run
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    table: dict[str, list[str]] = {row[0]: row[1:] for row in rows}
    number, before, after, _ = map(float, table["new task"])
    assert (number, before) == (UNSEEN, 0) and after >= 0.95, printed
    for ability in KEPT:
        number, before, after, change = map(float, table[f"old abilities: {ability}"])
        assert number == ASKED and before >= 0.95 and change == pytest.approx(after - before, abs=2e-3)
        assert change >= -0.03, printed
    assert (folder / "report.md").read_text().strip() in printed


@pytest.fixture(scope="module")
def merged(run: tuple[Path, str]) -> Path:
    """A whole checkpoint, beside the adapter."""
    assert main(["merge", "--adapter", str(run[0]), "--out", str(run[0].parent / "merged")]) == 0
    return run[0].parent / "merged"


@pytest.fixture(scope="module")
def site(run: tuple[Path, str], merged: Path) -> Iterator[Site]:
    """The Gradio page with the model that its flags ask for, in whose working folder the adapter lies."""
    flags = web_demo.parser().parse_args(["--model", str(merged)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run[0].parent)
        provider = provider_of(flags, lambda done, total: None)
        provider.wait()
        with serve(provider, offer_of(flags, provider)) as site:
            yield site


def test_in_the_browser_the_merged_folder_answers_it_and_the_adapter_from_the_picker(
    run: tuple[Path, str], merged: Path, visit: Callable[..., Visitor], capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in merged.iterdir()}
    assert main(["merge", "--adapter", str(run[0]), "--out", str(merged)]) == 1
    assert "not empty" in capsys.readouterr().err
    visitor: Visitor = visit()
    header = visitor.page.locator("#header")
    for number, (name, true) in enumerate(zip(NAMES, answers(run[0]), strict=False)):
        if number:
            visitor.unfold("models")
            visitor.page.locator("#picker input").click()
            visitor.page.get_by_role("option", name=name).first.click()
            visitor.page.locator("#switch").click()
        expect(header).to_contain_text(f"{name} on cpu")
        visitor.ask(QUESTION, run[0].parent / f"unseen-{number}.png")
        assert visitor.answered() == true
        visitor.press("clear")
        visitor.until(lambda: visitor.questions() == [])


def answers(folder: Path) -> list[str]:
    """The true answers about the unseen pictures."""
    rows = json.loads((folder.parent / "unseen.json").read_text())
    return [row["conversations"][1]["content"] for row in rows]
