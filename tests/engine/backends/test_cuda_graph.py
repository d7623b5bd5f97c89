"""Seats: what is decoded in keys and values of fixed length is what is decoded in growing ones."""

from __future__ import annotations

import pytest
import torch

from omnilmm.engine.backends.cuda_graph import SHORTEST, Seats
from omnilmm.engine.backends.decoder import Decoder
from tests.models.tiny import VERSIONS, tiny_model


@torch.inference_mode()
@pytest.mark.parametrize("version", VERSIONS)
def test_a_seat_decodes_as_the_model_does(version: str) -> None:
    """Sitting down, rising and sitting down again, in a seat that somebody else has used."""
    model = tiny_model(version)
    seats = Seats(model, 1)
    embeds = model.get_input_embeddings()(torch.arange(40)[None] % 200)
    for begin in (9, 25):
        plain, seated = Decoder(model), Decoder(model)
        for decoder in (plain, seated):
            decoder.read_only(embeds[:, :begin], list(range(begin)))
        for first, last in ((begin, begin + 5), (begin + 5, begin + 9)):
            seat = seats.take(40)
            assert seat is not None
            seated.sit(seat)
            for place in range(first, last):
                expected, found = (each.read(embeds[:, place : place + 1], [place]) for each in (plain, seated))
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            seated.rise()
            seats.give_back(seat)
        assert seated.keys == plain.keys and seated.length == plain.length and seated.nbytes == plain.nbytes
        expected, found = (each.read(embeds[:, 39:], [39]) for each in (plain, seated))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_seats_are_shared_out_and_made_longer_where_needed() -> None:
    seats = Seats(tiny_model(), 2)
    first, second = seats.take(10), seats.take(SHORTEST + 1)
    assert first is not None and second is not None
    assert (first.length, second.length) == (SHORTEST, 2 * SHORTEST)
    assert seats.take(10) is None, "no more than were allowed"
    seats.give_back(first)
    seats.give_back(second)
    assert seats.take(10) is first, "the shortest that is long enough"
    seats.give_back(first)
    third = seats.take(5 * SHORTEST)
    assert third is not None and third.length == 8 * SHORTEST
    assert seats.take(10) is second, "the shortest made room"
    assert Seats(tiny_model(), 0).take(1) is None


@torch.inference_mode()
def test_free_seats_are_given_up_for_their_memory() -> None:
    model = tiny_model()
    seats, decoder = Seats(model, 2), Decoder(model)
    decoder.read_only(model.get_input_embeddings()(torch.arange(5)[None]), list(range(5)))
    seat, taken = seats.take(10), seats.take(10)
    assert seat is not None and taken is not None
    decoder.sit(seat)
    decoder.rise()
    seats.give_back(seat)
    assert seats.clear() == decoder.nbytes // 5 * SHORTEST
    assert seats.clear() == 0
