"""Generation options: sampling, greedy decoding or beam search, validated in one place.

Each mode is a type of its own, so an option of another mode cannot be passed along and silently ignored. `LIMITS` holds
the valid ranges; pages build their controls from them. Sampling at temperature 0 is greedy decoding: `options_for`
returns `Greedy` for both.

`thinking` sets whether the model thinks before it answers; None uses the model's default. `max_new_tokens` limits the
thought and the answer together. `max_slices` is the maximum number of slices a picture is cut into, and `finer_detail`
gives each slice four times as many tokens (4.6, 4.7); None uses the checkpoint's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from omnilmm.catalog import ModelCard, cards
from omnilmm.errors import OptionsError
from omnilmm.sentences import Sentence

Mode = Literal["sampling", "greedy", "beam"]


@dataclass(frozen=True)
class Limit:
    """The valid range of one option, bounds included."""

    low: float
    high: float
    step: float
    whole: bool = False


# Options that not every model supports, each with a model that does.
ABILITIES = {"thinking": "minicpm-v-4.5", "max_slices": "minicpm-v-2.6", "finer_detail": "minicpm-v-4.6"}

# Dividing logits by a smaller temperature could overflow; vLLM has the same threshold (`_SAMPLING_EPS`).
GREEDY_BELOW = 1e-5
MOST_SHOWN = 80  # maximum characters of a refused value in a message

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
    """Sample every token. The same seed gives the same answer; without one, the seed is drawn from torch's generator.

    At temperature 0 decoding is greedy: every token is the most likely one, regardless of top_p, top_k and seed.
    The answer ends before the first of the stop texts in `stop`.
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
        """Whether decoding is greedy."""
        return self.temperature < GREEDY_BELOW


@dataclass(frozen=True)
class Greedy:
    """Take the most likely token each time; deterministic. Benchmarks, and API clients at temperature 0, use it.

    The answer ends before the first of the stop texts in `stop`.
    """

    temperature: ClassVar[float] = 0.0
    is_greedy: ClassVar[bool] = True

    repetition_penalty: float = 1.0
    max_new_tokens: int = 1024
    thinking: bool | None = None
    stop: tuple[str, ...] = ()
    max_slices: int | None = None
    finer_detail: bool | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class BeamSearch:
    """Keep the `beams` best continuations and return the best complete answer; deterministic.

    The answer is cut before the first of the stop texts in `stop`.
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


Options = Sampling | Greedy | BeamSearch
TYPES: dict[Mode, type[Sampling] | type[Greedy] | type[BeamSearch]] = {
    "sampling": Sampling,
    "greedy": Greedy,
    "beam": BeamSearch,
}
MODES: tuple[Mode, ...] = tuple(TYPES)


def options_for(card: ModelCard, mode: Mode = "sampling", **given: Any) -> Options:
    """Return the model's defaults for a mode, overridden by the given options (None means the default).

    Greedy decoding has the repetition penalty of sampling, as `generate(do_sample=False)` with the checkpoint's own
    configuration. Sampling at temperature 0 becomes `Greedy`, whatever its seed.

    Raises:
        OptionsError: An unknown mode or option, an option of the other mode, an option the model does not support, or
            values out of range (all listed at once).
    """
    if not isinstance(mode, str) or mode not in TYPES:
        raise OptionsError("unknown_mode", mode=mode if isinstance(mode, str) else _shown(mode), expected=list(TYPES))
    known = {field.name for field in fields(TYPES[mode])}
    given = {name: value for name, value in given.items() if value is not None}
    strange = [name for name in given if name not in known]
    if strange:
        raise OptionsError("unknown_options", mode=mode, unknown=strange, known=sorted(known))
    _check_asked(card, given)
    options = TYPES[mode](**{"max_new_tokens": card.max_new_tokens, **_defaults(card, mode), **given})
    return _greedy(options) if isinstance(options, Sampling) and options.is_greedy else options


def _defaults(card: ModelCard, mode: Mode) -> dict[str, Any]:
    if mode == "greedy":
        return {"repetition_penalty": card.sampling.repetition_penalty}
    return (card.beam if mode == "beam" else card.sampling).model_dump()


def _greedy(options: Sampling) -> Greedy:
    return Greedy(**{field.name: getattr(options, field.name) for field in fields(Greedy)})


def check_abilities(card: ModelCard, options: Options) -> None:
    """Check that a model supports the given options.

    Raises:
        OptionsError: It has no switch for thinking, or its number of slices or detail cannot be chosen.
    """
    _check_asked(card, {name: value for name in ABILITIES if (value := getattr(options, name)) is not None})


def without_disabilities(card: ModelCard, options: Options) -> Options:
    """Return the options without those this model does not support, as they may have been chosen for another one."""
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
    """Return the `repr` of any value in one short line."""
    try:
        shown = " ".join(repr(value).split())
        return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]} …"
    except Exception:  # an integer of thousands of digits, or an object whose `repr` fails
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
