"""The controls that a page shows for each mode, built from the valid ranges and the model's defaults.

Both pages build their sliders from these, so that neither offers a value that can only fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.engine.options import LIMITS, MODES, TYPES, Limit, Mode, Options, options_for
from omnilmm.ui.texts import ENGLISH, Texts

MOST_DIGITS = 40
LENGTH = "max_new_tokens"
SLICES = "max_slices"
COMMON = (LENGTH, SLICES)  # options of both modes that share one control


@dataclass(frozen=True)
class Control:
    """One control: a slider, or a text field for an option without a default, which may stay empty.

    Attributes:
        name: the name of the option.
        label: its label on the page.
        help: what it does, in one line.
        limit: the valid values.
        default: the model's default; None for an option that may be omitted.
        is_shown: whether it has an effect where the model runs.
    """

    name: str
    label: str
    help: str
    limit: Limit
    default: float | None
    is_shown: bool = True


def modes_of(card: ModelCard) -> tuple[Mode, ...]:
    """Return the modes that a model offers."""
    return tuple(mode for mode in MODES if mode != "beam" or card.beam_search)


def mode_controls(card: ModelCard, mode: Mode, texts: Texts = ENGLISH) -> tuple[Control, ...]:
    """Return the controls of one mode alone, in the order of its options, those without effect included."""
    defaults = options_for(card, mode)
    names = [field.name for field in fields(TYPES[mode]) if field.name in LIMITS and field.name not in COMMON]
    controls = (_control(name, LIMITS[name], getattr(defaults, name), texts) for name in names)
    return tuple(replace(one, is_shown=f"{mode}.{one.name}" not in card.without_effect) for one in controls)


def length_control(card: ModelCard, texts: Texts = ENGLISH) -> Control:
    """Return the length limit: at most half of the context, which leaves room for a question with its pictures."""
    limit = replace(LIMITS[LENGTH], high=min(LIMITS[LENGTH].high, card.context // 2))
    return _control(LENGTH, limit, min(card.max_new_tokens, limit.high), texts)


def slices_control(card: ModelCard, texts: Texts = ENGLISH) -> Control:
    """Return the limit of slices per picture; to be shown where the model has that option."""
    return _control(SLICES, LIMITS[SLICES], card.max_slices or LIMITS[SLICES].high, texts)


def switched(card: ModelCard, thinking: object, finer_detail: object) -> dict[str, Any]:
    """Return the values of the switches (thinking, finer detail); None for a switch that the model lacks."""
    given = {"thinking": thinking if card.thinking is not None else None}
    return given | {"finer_detail": finer_detail if card.finer_detail else None}


def options_from_controls(card: ModelCard, mode: Mode, values: Mapping[str, Any]) -> Options:
    """Build options from the values of a mode's controls and of the shared ones; an empty text is the default.

    Raises:
        OptionsError: A value is invalid.
    """
    given = {name: _number(value) for name, value in values.items()}
    if given.get(SLICES) == card.max_slices or card.max_slices is None:  # the checkpoint's own value
        given.pop(SLICES, None)
    return options_for(card, mode, **given)


def _number(value: Any) -> Any:
    """Parse typed text as a number where it is one; `options_for` refuses anything else."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > MOST_DIGITS:  # Python does not parse more than a few thousand digits
        return f"{text[:MOST_DIGITS]}…"
    return int(text) if text.isdecimal() else text or None


def _control(name: str, limit: Limit, default: float | None, texts: Texts) -> Control:
    return Control(name, texts.labels[name], texts.help[name], limit, default)
