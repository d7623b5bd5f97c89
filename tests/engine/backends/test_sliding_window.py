"""Keys and values that have left a sliding window are gone, wherever a conversation is cut or decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from omnilmm.engine.backends.cuda_graph import StaticCacheSlots
from omnilmm.engine.backends.decoder import Decoder
from omnilmm.models.omnilmm12b import OmniLMMForCausalLM
from tests.models.tiny import save_tiny

WINDOW = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """OmniLMM-12B's language model is a Mistral, which may have a window."""
    folder: Path = save_tiny(tmp_path_factory.mktemp("sliding"), "omnilmm")
    config = OmniLMMForCausalLM.config_class.from_pretrained(folder)
    config.sliding_window = WINDOW
    return OmniLMMForCausalLM.from_pretrained(folder, config=config).eval()


def embeds_of(model: Any, count: int) -> Tensor:
    embeds: Tensor = model.get_input_embeddings()(torch.arange(5, 5 + count)[None])
    return embeds


@torch.inference_mode()
@pytest.mark.parametrize("read", range(WINDOW - 2, WINDOW + 3))
def test_it_can_be_cut_until_something_has_left_the_window(model: Any, read: int) -> None:
    """What is cut says afterwards what a decoder says that has never read more."""
    embeds = embeds_of(model, WINDOW + 3)
    decoder, plain = Decoder(model), Decoder(model)
    decoder.forward(embeds[:, :read], list(range(read)))
    assert decoder.cut(4) == (read < WINDOW)
    if read < WINDOW:
        plain.forward(embeds[:, :4], list(range(4)))
        rest = (embeds[:, 4:6], [4, 5])
        torch.testing.assert_close(decoder.forward(*rest), plain.forward(*rest))


@torch.inference_mode()
def test_what_a_slot_decoded_counts_towards_the_window(model: Any) -> None:
    embeds = embeds_of(model, WINDOW + 1)
    slots, decoder = StaticCacheSlots(model, 1), Decoder(model)
    decoder.prefill(embeds[:, : WINDOW - 3], list(range(WINDOW - 3)))
    slot = slots.acquire(2 * WINDOW)
    assert slot is not None
    decoder.attach(slot)
    for place in range(WINDOW - 3, WINDOW + 1):
        decoder.forward(embeds[:, place : place + 1], [place])
    decoder.detach()
    assert not decoder.cut(4)
