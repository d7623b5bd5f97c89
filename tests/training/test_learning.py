"""The built-in model learns what it did not know, keeps what it knew, and is talked to in the browser.

The task is in `parts.py`. One run, of which everything else here is about.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import expect

import web_demo
from omnilmm.conversation import Conversation
from omnilmm.engine.loading import load_engine
from omnilmm.images.pixels import open_picture
from omnilmm.training.__main__ import main
from omnilmm.training.forgetting import answer
from omnilmm.ui.startup import provider_of
from tests.pages.conftest import visit
from tests.pages.visitor import Site, Visitor, serve
from tests.training.parts import QUESTION, write_old, write_parts

__all__ = ["visit"]  # a fixture

KEPT = ("colour", "shape")
HOW = ("--batch-size", "4", "--accumulate", "1", "--epochs", "2", "--learning-rate", "2e-3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the adapter, with the data beside it, and what was printed."""
    folder = tmp_path_factory.mktemp("learning")
    data, unseen = write_parts(folder, "train", 200, seed=1), write_parts(folder, "unseen", 60, seed=2)
    replay, old = write_old(folder, "replay", 20, 4, KEPT), write_old(folder, "old", 20, 3, KEPT)
    files = ["--data", data, "--eval-data", unseen, "--keep-eval", old, "--replay", replay, "--out", folder / "parts"]
    printed = io.StringIO()
    with torch.random.fork_rng(), contextlib.redirect_stdout(printed):
        assert main(["train", *map(str, files), *HOW]) == 0
    return folder / "parts", printed.getvalue()


def unseen(folder: Path) -> list[tuple[Conversation, str]]:
    rows = json.loads((folder.parent / "unseen.json").read_text())
    pictures = [open_picture(folder.parent / row["image"]) for row in rows]
    asked = [Conversation().with_message("user", picture, QUESTION) for picture in pictures]
    return list(zip(asked, [row["conversations"][1]["content"] for row in rows], strict=True))


def test_the_new_task_is_learnt_and_with_old_data_mixed_in_little_is_forgotten(run: tuple[Path, str]) -> None:
    folder, printed = run
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    table: dict[str, list[str]] = {row[0]: row[1:] for row in rows}
    number, before, after, _ = map(float, table["new task"])
    assert (number, before) == (60, 0) and after >= 0.95, printed
    lost = []
    for ability in KEPT:
        number, before, after, change = map(float, table[f"old abilities: {ability}"])
        assert number == 20 and before >= 0.9 and change == pytest.approx(after - before, abs=2e-3)
        lost.append(-change)
    assert sum(lost) / len(lost) <= 0.03, printed
    assert (folder / "report.md").read_text().strip() in printed


def test_the_merged_folder_answers_it_alone(run: tuple[Path, str], tmp_path: Path, capsys: Any) -> None:
    folder, out = run[0], tmp_path / "merged"
    assert main(["merge", "--adapter", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert float(re.search(r"on one prompt: ([\d.e-]+)\. Try", said)[1]) < 1.0  # type: ignore[index]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in out.iterdir()}
    merged = load_engine(str(out))
    some = unseen(folder)[:10]
    assert sum(answer(merged, asked, 16) == true for asked, true in some) >= 9
    assert main(["merge", "--adapter", str(folder), "--out", str(out)]) == 1
    assert "not empty" in capsys.readouterr().err


@pytest.fixture(scope="module")
def site(run: tuple[Path, str]) -> Iterator[Site]:
    """The Gradio page with the model that its flags ask for."""
    provider = provider_of(web_demo.parser().parse_args(["--adapter", str(run[0])]), lambda done, total: None)
    provider.wait()
    with serve(provider) as site:
        yield site


def test_in_the_browser_the_adapter_answers_and_is_named(run: tuple[Path, str], visit: Callable[..., Visitor]) -> None:
    visitor: Visitor = visit()
    expect(visitor.page.get_by_text("+ parts").first).to_be_visible()
    visitor.ask(QUESTION, run[0].parent / "unseen-0.png")
    assert visitor.answered() == unseen(run[0])[0][1]
