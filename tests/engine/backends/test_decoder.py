"""A small model computes few tokens on one core, and leaves the setting of everybody else as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from omnilmm.engine.backends import decoder as decoding
from omnilmm.engine.backends.decoder import Decoder
from tests.models.tiny import tiny_model


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@torch.inference_mode()
@pytest.mark.parametrize(("small_bytes", "single"), [(decoding.SMALL_BYTES, 1), (0, 2)])
def test_few_tokens_of_small_models_take_one_core(
    monkeypatch: pytest.MonkeyPatch, small_bytes: int, single: int
) -> None:
    monkeypatch.setattr(decoding, "SMALL_BYTES", small_bytes)
    model, threads = tiny_model(), []
    model.llm.register_forward_pre_hook(lambda *_: threads.append(torch.get_num_threads()))
    embeds = model.get_input_embeddings()(torch.arange(40)[None])
    decoder = Decoder(model)
    decoder.forward(embeds, list(range(40)))
    decoder.forward(embeds[:, :1], [40])
    assert threads == [2, single] and torch.get_num_threads() == 2


@torch.inference_mode()
def test_a_failed_pass_gives_the_cores_back() -> None:
    model = tiny_model()
    handle = model.llm.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Decoder(model).forward(model.get_input_embeddings()(torch.arange(1)[None]))
    handle.remove()
    assert torch.get_num_threads() == 2
