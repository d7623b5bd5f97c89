"""Controls can only choose what can work, and what they choose is what the engine gets."""

from __future__ import annotations

import pytest

from omnilmm.catalog import cards
from omnilmm.engine.options import MODES, BeamSearch, Mode, Sampling
from omnilmm.errors import OptionsError
from omnilmm.model_lookup import find
from omnilmm.ui.controls import length_control, mode_controls, options_from_controls, slices_control, switched

CARDS = list(cards().values())


@pytest.mark.parametrize("card", CARDS, ids=[card.name for card in CARDS])
@pytest.mark.parametrize("mode", ["sampling", "greedy", "beam"])
def test_both_ends_and_the_default_of_every_control_work(card, mode: Mode) -> None:
    length = length_control(card)
    for control in (*mode_controls(card, mode), length):
        for value in (control.limit.low, control.limit.high, control.default):
            chosen = int(value) if control.limit.whole and value is not None else value
            assert options_from_controls(card, mode, {control.name: chosen})
    assert length.limit.high < card.context
    assert length.default is not None
    assert length.default <= length.limit.high


def test_each_mode_has_its_own_controls() -> None:
    names = {mode: [control.name for control in mode_controls(CARDS[0], mode)] for mode in MODES}
    assert names["sampling"] == ["temperature", "top_p", "top_k", "repetition_penalty", "seed"]
    assert names["greedy"] == ["repetition_penalty"]
    assert names["beam"] == ["beams", "repetition_penalty", "length_penalty"]


def test_defaults_are_the_models() -> None:
    card = CARDS[0]
    defaults = {control.name: control.default for control in mode_controls(card, "sampling")}
    assert defaults == {**card.sampling.model_dump(), "seed": None}


def test_a_text_field_is_a_number_or_nothing() -> None:
    card = CARDS[0]
    assert options_from_controls(card, "sampling", {"seed": " 7 "}).seed == 7  # type: ignore[union-attr]
    assert options_from_controls(card, "sampling", {"seed": " "}).seed is None  # type: ignore[union-attr]
    with pytest.raises(OptionsError, match="seed"):
        options_from_controls(card, "sampling", {"seed": "seven"})
    assert isinstance(options_from_controls(card, "sampling", {}), Sampling)
    assert isinstance(options_from_controls(card, "beam", {"beams": 5}), BeamSearch)


def test_slices_and_detail_are_offered_where_the_model_has_a_choice() -> None:
    able, plain = find("minicpm-v-4.6"), find("built-in")
    slices = slices_control(able)
    assert (slices.limit.low, slices.limit.high, slices.default) == (1, 36, 9)
    for value, asked in ((36, 36), (9, None), (1.0, 1)):  # nine are its own
        options = options_from_controls(able, "sampling", {"max_slices": value} | switched(able, None, True))
        assert (options.max_slices, options.finer_detail) == (asked, True)
    options = options_from_controls(plain, "beam", {"max_slices": 9} | switched(plain, True, True))
    assert (options.max_slices, options.finer_detail, options.thinking) == (None, None, None)
