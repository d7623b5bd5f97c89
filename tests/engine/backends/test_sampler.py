"""Tokens are drawn as transformers' own processors and torch's `multinomial` draw them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from omnilmm.engine.backends.sampler import Sampler
from omnilmm.engine.options import Sampling

CPU = torch.device("cpu")


def drawn(options: Sampling, seed: int, logits: Tensor) -> list[int]:
    """One token for each row of logits [tokens, V]."""
    sampler = Sampler(options, seed, CPU)
    return [int(sampler.draw(row[None])) for row in logits]


def drawn_by_the_library(options: Sampling, seed: int, logits: Tensor) -> list[int]:
    """The same, in the order of `generate`."""
    warpers = [
        TemperatureLogitsWarper(options.temperature or 1.0),
        TopKLogitsWarper(options.top_k),
        TopPLogitsWarper(options.top_p),
    ]
    is_greedy = options.temperature < 1e-5
    processors = LogitsProcessorList(
        [RepetitionPenaltyLogitsProcessor(options.repetition_penalty), *([] if is_greedy else warpers)]
    )
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros((1, 0), dtype=torch.long)
    for row in logits:
        scores = processors(ids, row[None])
        shares = scores.softmax(dim=-1)
        best, drawn = scores.argmax(dim=-1, keepdim=True), torch.multinomial(shares, 1, generator=generator)
        ids = torch.cat([ids, best if is_greedy else drawn], dim=1)
    return [int(token) for token in ids[0]]


@settings(max_examples=200, deadline=None)
@given(
    temperature=st.floats(0, 2),
    top_p=st.floats(0.05, 1),
    top_k=st.integers(1, 200),
    penalty=st.sampled_from([1.0, 1.05, 1.3, 2.0]),
    seed=st.integers(0, 2**31),
    vocabulary=st.integers(2, 400),
    sharpness=st.floats(0.1, 20),
)
def test_the_same_tokens_as_generate(
    temperature: float, top_p: float, top_k: int, penalty: float, seed: int, vocabulary: int, sharpness: float
) -> None:
    options = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, repetition_penalty=penalty, max_new_tokens=20)
    logits = sharpness * torch.randn(20, vocabulary, generator=torch.Generator().manual_seed(seed))
    assert drawn(options, seed, logits) == drawn_by_the_library(options, seed, logits)


@given(
    temperature=st.sampled_from([0, 0.0, -0.0, 1e-38, 9e-6]),
    penalty=st.sampled_from([0.8, 1.0, 1.3]),
    top_p=st.floats(0.05, 1),
    seed=st.integers(0, 2**31),
)
def test_at_temperature_0_nothing_is_drawn(temperature: float, penalty: float, top_p: float, seed: int) -> None:
    options = Sampling(temperature, top_p, repetition_penalty=penalty)
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(seed))
    assert drawn(options, seed, logits) == drawn(options, seed + 1, logits) == drawn_by_the_library(options, 0, logits)


def test_two_answers_draw_from_numbers_of_their_own() -> None:
    options = Sampling(max_new_tokens=20, temperature=2.0)
    logits = torch.zeros(20, 50)
    one, other = Sampler(options, 1, CPU), Sampler(options, 2, CPU)
    mixed = [(int(one.draw(row[None])), int(other.draw(row[None]))) for row in logits]
    assert [a for a, _ in mixed] == drawn(options, 1, logits)
    assert [b for _, b in mixed] == drawn(options, 2, logits)
    assert drawn(options, 1, logits) != drawn(options, 2, logits)
