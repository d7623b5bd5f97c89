"""StaticCacheSlots: decoding with a KV cache of fixed length gives what decoding with a growing one gives."""

from __future__ import annotations

import pytest
import torch

from omnilmm.engine.backends.cuda_graph import SHORTEST, StaticCacheSlots
from omnilmm.engine.backends.decoder import Decoder
from tests.models.tiny import VERSIONS, tiny_model


@torch.inference_mode()
@pytest.mark.parametrize("version", VERSIONS)
def test_a_static_cache_slot_decodes_as_the_model_does(version: str) -> None:
    """Attached, detached and attached again, in a slot that another answer has used."""
    model = tiny_model(version)
    static_slots = StaticCacheSlots(model, 1)
    embeds = model.get_input_embeddings()(torch.arange(40)[None] % 200)
    for begin in (9, 25):
        plain, in_slot = Decoder(model), Decoder(model)
        for decoder in (plain, in_slot):
            decoder.prefill(embeds[:, :begin], list(range(begin)))
        for first, last in ((begin, begin + 5), (begin + 5, begin + 9)):
            slot = static_slots.acquire(40)
            assert slot is not None
            in_slot.attach(slot)
            for place in range(first, last):
                expected, found = (each.forward(embeds[:, place : place + 1], [place]) for each in (plain, in_slot))
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            in_slot.detach()
            static_slots.release(slot)
        assert in_slot.keys == plain.keys and in_slot.length == plain.length and in_slot.nbytes == plain.nbytes
        expected, found = (each.forward(embeds[:, 39:], [39]) for each in (plain, in_slot))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_slots_are_shared_out_and_made_longer_where_needed() -> None:
    static_slots = StaticCacheSlots(tiny_model(), 2)
    first, second = static_slots.acquire(10), static_slots.acquire(SHORTEST + 1)
    assert first is not None and second is not None
    assert (first.length, second.length) == (SHORTEST, 2 * SHORTEST)
    assert static_slots.acquire(10) is None, "no more than were allowed"
    static_slots.release(first)
    static_slots.release(second)
    assert static_slots.acquire(10) is first, "the shortest that is long enough"
    static_slots.release(first)
    third = static_slots.acquire(5 * SHORTEST)
    assert third is not None and third.length == 8 * SHORTEST
    assert static_slots.acquire(10) is second, "the shortest made room"
    assert StaticCacheSlots(tiny_model(), 0).acquire(1) is None


@torch.inference_mode()
def test_free_slots_are_given_up_for_their_memory() -> None:
    model = tiny_model()
    static_slots, decoder = StaticCacheSlots(model, 2), Decoder(model)
    decoder.prefill(model.get_input_embeddings()(torch.arange(5)[None]), list(range(5)))
    slot, taken = static_slots.acquire(10), static_slots.acquire(10)
    assert slot is not None and taken is not None
    decoder.attach(slot)
    decoder.detach()
    static_slots.release(slot)
    assert static_slots.clear() == decoder.nbytes // 5 * SHORTEST
    assert static_slots.clear() == 0
