"""What is kept of a library's model can be had as a whole alone, and every continuation gets a copy of its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from omnilmm.engine.caches.picture_state import PictureState


@pytest.fixture
def state() -> PictureState:
    """Of three tokens, two layers and one head of four numbers."""
    config = LlamaConfig(num_hidden_layers=2, hidden_size=4, num_attention_heads=1)
    model = SimpleNamespace(
        config=SimpleNamespace(get_text_config=lambda decoder: config),
        base_model=SimpleNamespace(rope_deltas=None),
        device=torch.device("cpu"),
    )
    found = PictureState(model, ["a", "b", "picture"])
    for layer in range(2):
        found.cache.update(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4), layer)
    return found


def test_no_part_of_it_can_be_had(state: PictureState) -> None:
    assert [state.cut(length) for length in (0, 1, 2, 3)] == [False, False, False, True]


def test_its_bytes_are_those_of_all_keys_and_values(state: PictureState) -> None:
    assert state.nbytes == 2 * 2 * 3 * 4 * 4
    state.cache.layers[1].states = {0: torch.ones(2), 1: [torch.ones(3), None]}  # as of linear attention
    assert state.nbytes == 2 * 2 * 3 * 4 * 4 + (2 + 3) * 4


@pytest.mark.parametrize("rows", [1, 3])
def test_a_continuation_changes_a_copy(state: PictureState, rows: int) -> None:
    ids, state.deltas = torch.arange(5)[None], torch.tensor([[7]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.ones(9)}
    found = state.continue_inputs(inputs, rows)
    assert set(found) == {"input_ids", "attention_mask", "past_key_values"}, "pictures are read already"
    assert found["past_key_values"].layers[0].keys.shape[0] == rows
    assert state.model.base_model.rope_deltas is state.deltas
    found["past_key_values"].update(torch.zeros(rows, 1, 1, 4), torch.zeros(rows, 1, 1, 4), 0)
    found["past_key_values"].layers[1].keys.zero_()
    assert state.cache.get_seq_length() == 3 and bool(state.cache.layers[1].keys.all())
