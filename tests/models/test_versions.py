"""What a version costs: a row in the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from omnilmm.catalog import FAMILIES, cards
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.remote.slicing import published_slices
from omnilmm.versions import VERSIONS, looks_like
from tests.models.tiny import save_tiny

QUESTION = Conversation().with_message("user", Picture(Image.new("RGB", (60, 40), "red")), "What?")


def test_a_new_version_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tmp_path, "4.0")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"version": 9}))
    row = replace(VERSIONS["4.0"], title="MiniCPM-V 9", written=9.0, in_batches=False)
    monkeypatch.setitem(VERSIONS, "9.0", row)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    assert model.config.version == "9.0" and model.config.to_dict()["version"] == 9.0
    assert processor.apply_chat_template(QUESTION).startswith("<|im_start|>user")
    with torch.no_grad():
        assert model(**processor.inputs(QUESTION)).logits.isfinite().all()


def test_every_version_has_a_card() -> None:
    assert {card.family for card in cards().values()} == set(FAMILIES) - {"remote"}


@pytest.mark.parametrize("version", VERSIONS)
def test_slices_before_a_server_are_those_of_the_row(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(VERSIONS[version], query_num=17)
    monkeypatch.setitem(VERSIONS, version, row)
    card = next(card for card in cards().values() if card.version is row and not card.is_shipped)
    sliced = published_slices(card)
    assert bool(sliced) == row.is_sliced
    views = sliced(Picture(Image.new("RGB", (900, 900))), None) if sliced else None
    assert views is None or [view.tokens for view in views] == [17] * 5


@pytest.mark.parametrize(
    ("rows", "titles"),
    [
        ((4096, 2560), ["MiniCPM-V 4.0"]),
        ((4096, 4096), ["MiniCPM-Llama3-V 2.5"]),
        ((), ["MiniCPM-Llama3-V 2.5", "MiniCPM-V 4.0"]),
    ],
)
def test_names_that_two_versions_share_are_told_apart_by_shapes(rows: tuple[int, ...], titles: list[str]) -> None:
    names = {"vpm.encoder.layers.0.mlp.fc1.weight": (), "llm.model.layers.0.self_attn.q_proj.weight": rows}
    assert looks_like(names) == titles
