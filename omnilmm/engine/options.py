"""How an answer is generated: sampling or beam search, validated in one place.

The two modes are two types: an option of the other mode cannot be carried along and silently dropped. `LIMITS` are the
values that can work; pages build their controls from them.

`thinking` says whether the model shall think before it answers; None leaves it to the model. The length limit counts
both, the thought and the answer. `max_slices` is the most slices that a picture is cut into, `finer_detail` gives each
four times as many tokens (4.6, 4.7); None leaves them as the checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from omnilmm.catalog import ModelCard, cards
from omnilmm.errors import OptionsError
from omnilmm.sentences import Sentence

Mode = Literal["sampling", "beam"]


@dataclass(frozen=True)
class Limit:
    """The values of one option that can work, ends included."""

    low: float
    high: float
    step: float
    whole: bool = False


# What not every model has a choice of, and which one has.
ABILITIES = {"thinking": "minicpm-v-4.5", "max_slices": "minicpm-v-2.6", "finer_detail": "minicpm-v-4.6"}

# Below it logits are divided by next to nothing, up to infinity; vLLM draws the same line (`_SAMPLING_EPS`).
GREEDY_BELOW = 1e-5
MOST_SHOWN = 80  # characters of a value that is refused

LIMITS = {
    "temperature": Limit(0.0, 2.0, 0.05),
    "top_p": Limit(0.05, 1.0, 0.05),
    "top_k": Limit(1, 200, 1, whole=True),
    "repetition_penalty": Limit(0.5, 3.0, 0.01),
    "seed": Limit(0, 2**32 - 1, 1, whole=True),
    "beams": Limit(2, 5, 1, whole=True),
    "length_penalty": Limit(-2.0, 2.0, 0.1),
    "max_new_tokens": Limit(1, 8192, 1, whole=True),
    "max_slices": Limit(1, 36, 1, whole=True),
}


@dataclass(frozen=True)
class Sampling:
    """Draw every token. The same seed gives the same answer; without one, torch's generator is drawn from.

    At temperature 0 nothing is drawn: every token is the likeliest one, whatever top_p, top_k and seed say.
    The answer ends before the first of the texts in `stop`.
    """

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 100
    repetition_penalty: float = 1.05
    seed: int | None = None
    max_new_tokens: int = 1024
    thinking: bool | None = None
    stop: tuple[str, ...] = ()
    max_slices: int | None = None
    finer_detail: bool | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def is_greedy(self) -> bool:
        """Whether every token is the likeliest one."""
        return self.temperature < GREEDY_BELOW


@dataclass(frozen=True)
class BeamSearch:
    """Follow the `beams` best continuations and give the best whole answer. Always the same answer.

    It is cut before the first of the texts in `stop`.
    """

    beams: int = 3
    repetition_penalty: float = 1.2
    length_penalty: float = 1.0
    max_new_tokens: int = 1024
    thinking: bool | None = None
    stop: tuple[str, ...] = ()
    max_slices: int | None = None
    finer_detail: bool | None = None

    def __post_init__(self) -> None:
        _check(self)


Options = Sampling | BeamSearch
TYPES: dict[Mode, type[Sampling] | type[BeamSearch]] = {"sampling": Sampling, "beam": BeamSearch}
MODES: tuple[Mode, ...] = tuple(TYPES)


def options_for(card: ModelCard, mode: Mode = "sampling", **given: Any) -> Options:
    """The model's defaults for a mode, overridden by what is given (None means the default).

    Raises:
        OptionsError: An unknown mode or option, an option of the other mode, or a value that can only fail; all
            problems at once.
    """
    if not isinstance(mode, str) or mode not in TYPES:
        raise OptionsError("unknown_mode", mode=mode if isinstance(mode, str) else _shown(mode), expected=list(TYPES))
    known = {field.name for field in fields(TYPES[mode])}
    given = {name: value for name, value in given.items() if value is not None}
    strange = [name for name in given if name not in known]
    if strange:
        raise OptionsError("unknown_options", mode=mode, unknown=strange, known=sorted(known))
    _check_asked(card, given)
    defaults = (card.sampling if mode == "sampling" else card.beam).model_dump()
    return TYPES[mode](**{"max_new_tokens": card.max_new_tokens, **defaults, **given})


def check_abilities(card: ModelCard, options: Options) -> None:
    """Whether a model can do what is asked of it.

    Raises:
        OptionsError: It has no switch for thinking, or no choice of how its pictures are cut.
    """
    _check_asked(card, {name: value for name in ABILITIES if (value := getattr(options, name)) is not None})


def without_disabilities(card: ModelCard, options: Options) -> Options:
    """Options without what this model has no choice of: they may have been chosen for another one."""
    left_out: dict[str, Any] = {name: None for name in ABILITIES if not _has_choice(card, name)}
    return replace(options, **left_out) if any(getattr(options, name) is not None for name in left_out) else options


def _has_choice(card: ModelCard, name: str) -> bool:
    return bool(card.finer_detail) if name == "finer_detail" else getattr(card, name) is not None


def _check_asked(card: ModelCard, asked: Mapping[str, Any]) -> None:
    title = card.title
    for name in (name for name in ABILITIES if name in asked and not _has_choice(card, name)):
        way = Sentence("use_model", model=ABILITIES[name], title=cards()[ABILITIES[name]].title)
        if name == "thinking":
            raise OptionsError("no_switch_for_thinking", title=title, way=way)
        if name == "max_slices":
            raise OptionsError("no_choice_of_slices", title=title, way=way)
        raise OptionsError("no_finer_detail", title=title, way=way)


def _shown(value: object) -> str:
    """A value as a program writes it, whatever it is, in one short line."""
    try:
        said = " ".join(repr(value).split())
        return said if len(said) <= MOST_SHOWN else f"{said[:MOST_SHOWN]} …"
    except Exception:  # a whole number of thousands of digits, or an object that cannot show itself
        return type(value).__name__


def _check(options: Options) -> None:
    problems = []
    switches = {name: getattr(options, name) for name in ("thinking", "finer_detail")}
    problems += [
        Sentence("true_or_false", name=name, got=repr(value))
        for name, value in switches.items()
        if value is not None and not isinstance(value, bool)
    ]
    if not all(isinstance(text, str) and text for text in options.stop):
        problems.append(Sentence("stop_texts", got=repr(options.stop)))
    for field in fields(options):
        if field.name not in LIMITS:
            continue
        value, limit = getattr(options, field.name), LIMITS[field.name]
        if field.name in ("seed", "max_slices") and value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not limit.low <= value <= limit.high or (limit.whole and value != int(value)):
            problems.append(
                Sentence(
                    "whole_number_from" if limit.whole else "number_from",
                    name=field.name,
                    low=limit.low,
                    high=limit.high,
                    got=_shown(value),
                )
            )
        elif limit.whole:
            object.__setattr__(options, field.name, int(value))  # 50.0 from a slider is 50
    if problems:
        raise OptionsError("options_out_of_range", problems=problems)
