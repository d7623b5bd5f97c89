"""Questions before and after a training: what one forward pass tells is what the model would write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from omnilmm.engine.caches.lru import LRUCache
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.training import forgetting
from omnilmm.training.examples import Examples, usable_examples
from tests.training.parts import write_old


def test_a_row_is_right_by_one_pass_or_by_what_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_old(tmp_path, "old", 5, 3, ("colour", "shape"))
    rows = json.loads(path.read_text())
    rows[0]["conversations"][1]["content"] = "Nothing of the kind."
    rows[1]["conversations"][1]["content"] += "  "  # other tokens, the same answer
    rows[2]["conversations"] *= 2  # two answers, the second after the first
    path.write_text(json.dumps(rows))
    engine = load_engine()
    assert isinstance(engine, LocalEngine)
    examples = usable_examples(path, engine.processor, engine.card)
    data = Examples(examples, engine.model, engine.processor, keeps_features=True, cache=LRUCache(2**20))
    generate: Any = forgetting._asked
    expected: dict[str, list[bool]] = {}
    for example in examples:
        expected.setdefault(f"old: {example.row.group}", []).extend(generate(engine, example.conversation(), None))
    generated: list[int] = []
    monkeypatch.setattr(forgetting, "_asked", lambda *given: (generated.append(1), generate(*given))[1])
    found = forgetting.shares(engine, {"old": data}, batch_size=4)
    assert found == {group: (sum(right) / len(right), len(right)) for group, right in expected.items()}
    assert found["old: colour"][1] == 6 and 0 < found["old: colour"][0] < 1
    assert 2 <= len(generated) < 5

    def too_large(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(forgetting, "collate", too_large)  # then they are asked one by one
    generated.clear()
    few = Examples(examples[3:5], engine.model, engine.processor, keeps_features=True, cache=data.cache)
    right = [generate(engine, example.conversation(), None)[0] for example in examples[3:5]]
    assert forgetting.shares(engine, {"old": few}) == {"old: colour": (sum(right) / 2, 2)} and len(generated) == 2
