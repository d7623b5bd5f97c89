"""Finds the two files of a model among those of a folder or repository, and the best quantisation that fits.

A model is a language model, perhaps split (`…-00001-of-00003.gguf`), and an mmproj file with the part that sees. The
name says the quantisation: `ggml-model-Q4_K_M.gguf`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from omnilmm.errors import CheckpointError, HardwareError
from omnilmm.hardware import gib
from omnilmm.sentences import Sentence

ENDING = ".gguf"
SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
QUANT = re.compile(
    r"(?<![A-Za-z0-9])(?P<quant>IQ\d_[A-Z]+|T?Q\d(?:_K)?(?:_[SMLX]+|_[01])?|MXFP4(?:_MOE)?|BF16|F16|F32|FP16|FP32)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# From the best to the smallest that is still of use; larger ones than Q8_0 are only taken if they are asked for.
PREFERRED = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_XS", "IQ4_NL")
WORKING_BYTES = 2**29  # compute buffers, and the runtime itself


@dataclass(frozen=True)
class Candidate:
    """One language model of a repository.

    Attributes:
        quant: its quantisation in capitals; "" if its name does not say it.
        names: its files, several if it is split.
        size: bytes of all of them; 0 if that is not known.
    """

    quant: str
    names: tuple[str, ...]
    size: int


def is_gguf(name: str) -> bool:
    """Return whether a name is one of a GGUF file."""
    return name.lower().endswith(ENDING)


def is_mmproj(name: str) -> bool:
    """Return whether a name is one of an mmproj file."""
    return is_gguf(name) and "mmproj" in name.lower()


def quant_of(name: str) -> str:
    """Return the quantisation that a name says, "" if it says none."""
    found = QUANT.findall(name.removesuffix(ENDING))
    return str(found[-1]).upper().replace("FP", "F") if found else ""


def candidates(source: str, sizes: Mapping[str, int]) -> list[Candidate]:
    """Return the language models among files, without those of an incomplete split.

    Args:
        source: name of the folder or repository, for messages.
        sizes: sizes in bytes by name.

    Raises:
        CheckpointError: There are none, or all are incomplete.
    """
    names = [name for name in sizes if is_gguf(name) and not is_mmproj(name)]
    found = [Candidate(quant_of(name), (name,), sizes[name]) for name in names if not SPLIT.fullmatch(name)]
    missing: list[str] = []
    for first in (match for name in names if (match := SPLIT.fullmatch(name)) and int(match["number"]) == 1):
        parts = parts_of(first.string)
        absent = [part for part in parts if part not in sizes]
        missing += absent
        if not absent:
            found.append(Candidate(quant_of(first["stem"]), parts, sum(sizes[part] for part in parts)))
    if not found and (missing or any(map(SPLIT.fullmatch, names))):
        raise CheckpointError("gguf_parts_missing", source=source, missing=missing or [f"…-00001-of-…{ENDING}"])
    if not found:
        raise CheckpointError("no_gguf_there", source=source)
    return found


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names of all parts of a split model, given one of them; the name itself if it is not split."""
    match = SPLIT.fullmatch(name)
    if match is None:
        return (name,)
    count = match["count"]
    return tuple(f"{match['stem']}-{number:05}-of-{count}{ENDING}" for number in range(1, int(count) + 1))


def mmproj_of(source: str, names: Iterable[str], wanted: str | None = None) -> str | None:
    """Return the mmproj file among names: the one asked for, else f16, else the first; None if there is none.

    Raises:
        CheckpointError: The one asked for is not there.
    """
    found = sorted(filter(is_mmproj, names))
    if wanted is not None:
        if wanted not in set(names):
            raise CheckpointError("no_such_mmproj", source=source, mmproj=wanted, found=found or [Sentence("none")])
        return wanted
    preferred = [name for name in found if quant_of(name) == "F16"]
    return next(iter([*preferred, *found]), None)


def choose(title: str, found: list[Candidate], quant: str | None, more_bytes: int, free_bytes: int | None) -> Candidate:
    """Choose a quantisation: the one asked for, else the best that fits the memory, from Q8_0 downwards.

    Args:
        title: name of the model in messages.
        found: what there is to choose from.
        quant: the quantisation asked for; None for the best that fits.
        more_bytes: memory besides the weights of the language model.
        free_bytes: free memory; None if it is not known.

    Raises:
        CheckpointError: There is no such quantisation.
        HardwareError: It does not fit, or none does; the message says which would.
    """
    free = inf if free_bytes is None else free_bytes
    fitting = [one for one in found if one.size + more_bytes <= free]
    if quant is not None:
        asked = next((one for one in found if one.quant == quant.upper()), None)
        if asked is None:
            raise CheckpointError("no_such_quantisation", title=title, quant=quant, found=_named(found))
        if asked not in fitting:
            raise _too_large(title, asked, asked.size + more_bytes, fitting, free_bytes or 0)
        return asked
    if best := _best(fitting):
        return best
    smallest = min(found, key=lambda one: one.size)
    raise _too_large(title, smallest, smallest.size + more_bytes, [], free_bytes or 0)


def _best(fitting: list[Candidate]) -> Candidate | None:
    by_quant = {one.quant: one for one in fitting}
    ranked = [by_quant[quant] for quant in PREFERRED if quant in by_quant]
    # Those that the list does not name: the largest, as F16 alone, and the smallest quantisations.
    return next(iter([*ranked, *sorted(fitting, key=lambda one: -one.size)]), None)


def _too_large(title: str, one: Candidate, needed: int, fitting: list[Candidate], free: int) -> HardwareError:
    best = _best(fitting)
    way = Sentence("use_quant", quant=best.quant) if best and best.quant else Sentence("use_smaller_model")
    return HardwareError(
        "gguf_does_not_fit", title=title, quant=one.quant or "GGUF", needed=gib(needed), free=gib(free), way=way
    )


def _named(found: list[Candidate]) -> list[str]:
    return sorted({one.quant or one.names[0] for one in found})
