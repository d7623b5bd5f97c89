"""Options that can only fail are refused with their range, and those of the other mode are never dropped."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from omnilmm.catalog import cards
from omnilmm.engine.options import LIMITS, TYPES, BeamSearch, Greedy, Limit, Mode, Sampling, options_for
from omnilmm.errors import OptionsError

CARD = cards()["minicpm-v-2.6"]
OPTIONS = [
    (mode, name) for mode, kind in TYPES.items() for name in (field.name for field in fields(kind)) if name in LIMITS
]


@pytest.mark.parametrize(("mode", "name"), OPTIONS)
def test_both_ends_of_a_range_are_allowed(mode: Mode, name: str) -> None:
    limit = LIMITS[name]
    for value in (limit.low, limit.high):
        value = int(value) if limit.whole else value
        assert getattr(options_for(CARD, mode, **{name: value}), name) == value


@pytest.mark.parametrize(("mode", "name"), OPTIONS)
def test_values_outside_are_refused_with_the_range(mode: Mode, name: str) -> None:
    limit = LIMITS[name]
    for value in (limit.low - limit.step, limit.high + limit.step, math.inf, math.nan, "1", True, [1]):
        with pytest.raises(OptionsError) as caught:
            options_for(CARD, mode, **{name: value})
        bounds = f"from {limit.low:.10g} to {limit.high:.10g}, got {value!r}"
        assert name in str(caught.value) and bounds in str(caught.value)


@pytest.mark.parametrize(("mode", "name"), [(mode, name) for mode, name in OPTIONS if LIMITS[name].whole])
def test_a_fraction_where_a_whole_number_belongs_is_refused(mode: Mode, name: str) -> None:
    with pytest.raises(OptionsError, match="whole number"):
        options_for(CARD, mode, **{name: LIMITS[name].low + 0.5})


@pytest.mark.parametrize(("mode", "name"), [(mode, name) for mode, name in OPTIONS if LIMITS[name].whole])
def test_a_whole_number_written_as_a_float_is_one(mode: Mode, name: str) -> None:
    """A slider of a page gives 3.0."""
    value = getattr(options_for(CARD, mode, **{name: float(LIMITS[name].low)}), name)
    assert value == LIMITS[name].low and isinstance(value, int)


def test_all_bad_values_are_listed_at_once() -> None:
    with pytest.raises(OptionsError, match=r"temperature .*; top_p .*; top_k "):
        Sampling(temperature=-1, top_p=2, top_k=0)


@pytest.mark.parametrize(
    ("mode", "given", "named"),
    [
        ("sampling", {"beams": 3, "length_penalty": 1.0}, "beams, length_penalty"),
        ("beam", {"temperature": 0.7, "seed": 1}, "temperature, seed"),
        ("beam", {"top_q": 1}, "top_q"),
        ("greedy", {"temperature": 0, "seed": 1, "beams": 2}, "temperature, seed, beams"),
    ],
)
def test_options_of_the_other_mode_are_an_error(mode: Mode, given: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionsError, match=f"No option of {mode}: {named}. Options of {mode} are "):
        options_for(CARD, mode, **given)


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(OptionsError, match="'warm': expected sampling or greedy or beam"):
        options_for(CARD, "warm")


def test_defaults_are_the_models_own() -> None:
    assert options_for(CARD) == Sampling(0.7, 0.8, 100, 1.05, None, CARD.max_new_tokens)
    assert options_for(CARD, "beam") == BeamSearch(3, 1.2, 1.0, CARD.max_new_tokens)
    built_in = cards()["built-in"]
    assert options_for(built_in, "sampling") == Sampling(
        built_in.sampling.temperature,
        built_in.sampling.top_p,
        built_in.sampling.top_k,
        built_in.sampling.repetition_penalty,
        None,
        built_in.max_new_tokens,
    )


@pytest.mark.parametrize("temperature", [0, 0.0, -0.0, 9e-6])
def test_sampling_at_temperature_0_is_greedy_decoding(temperature: float) -> None:
    """One thing under two names: the same options, so the same answer, whatever else was given for sampling."""
    greedy = options_for(CARD, "greedy", max_new_tokens=9, stop=("x",), max_slices=2)
    assert greedy == Greedy(CARD.sampling.repetition_penalty, 9, stop=("x",), max_slices=2)
    sampling = {"temperature": temperature, "seed": 3, "top_k": 5, "top_p": 0.5}
    assert options_for(CARD, max_new_tokens=9, stop=("x",), max_slices=2, **sampling) == greedy
    assert options_for(CARD, temperature=0.05).temperature == 0.05  # type: ignore[union-attr]


def test_none_means_the_default() -> None:
    assert options_for(CARD, temperature=None, seed=None) == options_for(CARD)
    assert options_for(CARD, temperature=1.0, seed=3) == Sampling(temperature=1.0, seed=3, max_new_tokens=2048)


@pytest.mark.parametrize("mode", TYPES)
@pytest.mark.parametrize("card", cards().values(), ids=lambda card: card.name)
def test_every_models_defaults_are_valid(card: Any, mode: Mode) -> None:
    options_for(card, mode)


def test_every_option_has_its_limit() -> None:
    assert {name for _, name in OPTIONS} == set(LIMITS)
    assert all(isinstance(limit, Limit) and limit.low < limit.high for limit in LIMITS.values())


def test_a_refused_seed_is_told_its_whole_range() -> None:
    with pytest.raises(OptionsError, match="from 0 to 4294967295, got -1"):
        Sampling(seed=-1)


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(("mode", "name"), OPTIONS)
def test_whatever_else_is_given_is_one_short_line(mode: Mode, name: str) -> None:
    strange = (10**5000, -(10**5000), "9" * 4301, "\ud800", b"1", {}, [[1]], np.zeros((9, 9)), 1j, Unshowable(), int)
    for value in strange:
        with pytest.raises(OptionsError, match=f"^{name} must be ") as caught:
            options_for(CARD, mode, **{name: value})
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("mode", [None, 10**5000, [], {}, "beam\n", Unshowable()], ids=lambda mode: type(mode).__name__)
def test_a_mode_that_is_none_is_one_line(mode: Any) -> None:
    with pytest.raises(OptionsError, match=r"Unknown mode .*: expected sampling or greedy or beam") as caught:
        options_for(CARD, mode)
    assert "\n" not in str(caught.value)
