"""Which controls a page shows for each mode: built from the values that can work and from the model's defaults.

Both pages build their sliders from these, so that a value that can only fail cannot be chosen on either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.engine.options import LIMITS, TYPES, Limit, Mode, Options, options_for
from omnilmm.ui.texts import ENGLISH, Texts

MOST_DIGITS = 40
LENGTH = "max_new_tokens"
SLICES = "max_slices"
COMMON = (LENGTH, SLICES)  # options of both modes that are one control


@dataclass(frozen=True)
class Control:
    """One control: a slider, or a text field that may stay empty where there is no default.

    Attributes:
        name: of the option.
        label: what to call it.
        help: what it does, in one line.
        limit: the values that can work.
        default: the model's own; None for an option that may be left out.
    """

    name: str
    label: str
    help: str
    limit: Limit
    default: float | None


def mode_controls(card: ModelCard, mode: Mode, texts: Texts = ENGLISH) -> tuple[Control, ...]:
    """The controls of one mode alone, in the order of its options."""
    defaults = options_for(card, mode)
    names = [field.name for field in fields(TYPES[mode]) if field.name in LIMITS and field.name not in COMMON]
    return tuple(_control(name, LIMITS[name], getattr(defaults, name), texts) for name in names)


def length_control(card: ModelCard, texts: Texts = ENGLISH) -> Control:
    """The length limit: at most half of the context, so that there is always room for a question with its pictures."""
    limit = replace(LIMITS[LENGTH], high=min(LIMITS[LENGTH].high, card.context // 2))
    return _control(LENGTH, limit, min(card.max_new_tokens, limit.high), texts)


def slices_control(card: ModelCard, texts: Texts = ENGLISH) -> Control:
    """How many slices a picture is cut into at most; to be shown where that can be chosen."""
    return _control(SLICES, LIMITS[SLICES], card.max_slices or LIMITS[SLICES].high, texts)


def switched(card: ModelCard, thinking: object, finer_detail: object) -> dict[str, Any]:
    """The values of what can be switched on and off, of a model that has the switches."""
    given = {"thinking": thinking if card.thinking is not None else None}
    return given | {"finer_detail": finer_detail if card.finer_detail else None}


def options_from_controls(card: ModelCard, mode: Mode, values: Mapping[str, Any]) -> Options:
    """Options from the values of a mode's controls and of those of both modes; an empty text is the default.

    Raises:
        OptionsError: A value that can only fail.
    """
    given = {name: _number(value) for name, value in values.items()}
    if given.get(SLICES) == card.max_slices or card.max_slices is None:  # as the checkpoint has it
        given.pop(SLICES, None)
    return options_for(card, mode, **given)


def _number(value: Any) -> Any:
    """What was typed, as a number where it is one; `options_for` refuses what is not."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > MOST_DIGITS:  # Python itself reads no more than some thousand digits
        return f"{text[:MOST_DIGITS]}…"
    return int(text) if text.isdecimal() else text or None


def _control(name: str, limit: Limit, default: float | None, texts: Texts) -> Control:
    return Control(name, texts.labels[name], texts.help[name], limit, default)
