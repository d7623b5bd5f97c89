"""The shipped weights still do what their card says: a slice of the evaluation, held against the card's own table."""

from __future__ import annotations

import re

import pytest
import torch

from omnilmm.catalog import ROOT
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.training import evaluation

FOLDER = ROOT / "assets" / "built-in"
PICTURES = 60
SLACK = 0.08  # what chance may take from a share of some fifty questions


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    model = MiniCPMV.from_pretrained(FOLDER, dtype=torch.float32).eval()
    answered = evaluation.evaluate(model, MiniCPMVProcessor.from_pretrained(FOLDER), pictures=PICTURES)
    return {ability: share for ability, _, share in evaluation.table(answered)}


def rows_of_the_card() -> dict[str, float]:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    return {name: float(share) for name, share in re.findall(r"^\| (\w+) \| \d+ \| ([\d.]+) \|", card, re.MULTILINE)}


@pytest.mark.parametrize("ability", ["colour", "count", "description", "place", "reading", "shape", "yes_no"])
def test_the_card_tells_the_truth(measured: dict[str, float], ability: str) -> None:
    assert measured[ability] >= rows_of_the_card()[ability] - SLACK
