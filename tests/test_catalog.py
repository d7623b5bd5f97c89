"""Models are data: one YAML file each."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

from omnilmm import catalog
from omnilmm.catalog import BUILT_IN, CONFIGS, ROOT, cards
from omnilmm.errors import CheckpointError
from omnilmm.model_lookup import find

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1, "int4": 0.5}


def test_every_file_is_a_card_in_the_order_of_size() -> None:
    assert set(cards()) == {path.stem for path in CONFIGS.glob("*.yaml")}
    sizes = [card.parameters or math.inf for card in cards().values()]
    assert sizes == sorted(sizes) and next(iter(cards())) == BUILT_IN


@pytest.mark.parametrize("name", cards())
def test_a_card_can_be_true(name: str) -> None:
    card = cards()[name]
    assert card.max_new_tokens < card.context
    assert card.title and card.licence and card.languages
    for kind, gib in card.memory_gib.items():
        assert gib * 2**30 > (card.parameters or 0) * BYTES[kind], kind
    assert card.download_gib * 2**30 >= (card.parameters or 0) * BYTES[card.stored] * 0.99 or card.name == BUILT_IN
    if card.name != BUILT_IN:
        assert card.licence_url.endswith(card.source)


def test_the_built_in_card_describes_the_files_that_ship() -> None:
    card = find(BUILT_IN)
    assert Path(card.location) == ROOT / "assets" / "built-in"
    with safe_open(Path(card.location) / "model.safetensors", "pt") as weights:
        parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    assert parameters == card.parameters
    config = json.loads((Path(card.location) / "config.json").read_text())
    assert card.context <= config["max_position_embeddings"] and card.family == f"minicpm-v-{config['version']}"


def test_a_card_with_unknown_or_missing_keys_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = yaml.safe_load((CONFIGS / "built-in.yaml").read_text())
    monkeypatch.setattr(catalog, "CONFIGS", tmp_path)
    cards.cache_clear()
    try:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(good))
        assert list(cards()) == ["mine"]
        for bad, named in (
            ({**good, "colour": "red"}, "colour"),
            ({key: value for key, value in good.items() if key != "context"}, "context"),
            ({**good, "family": "7"}, "family"),
            (["no", "mapping"], "mine.yaml"),
        ):
            cards.cache_clear()
            (tmp_path / "mine.yaml").write_text(yaml.safe_dump(bad))
            with pytest.raises(CheckpointError, match=named):
                cards()
    finally:
        monkeypatch.undo()
        cards.cache_clear()
