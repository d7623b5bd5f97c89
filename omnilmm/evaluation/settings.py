"""Benchmarks: prompt and decoding for each model, and what its makers published; `configs/evaluation/*.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from omnilmm.catalog import CONFIGS, ModelCard
from omnilmm.conversation import Conversation, Part, Picture
from omnilmm.engine.options import Mode, Options, options_for
from omnilmm.errors import CheckpointError
from omnilmm.evaluation.judges import Judge
from omnilmm.evaluation.metrics import NAMES
from omnilmm.evaluation.rows import Row

FOLDER = CONFIGS / "evaluation"
PLAIN = "default"  # for files that are no known benchmark
_GAP = re.compile(r"\{(hint|question|options)\}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Setting(_Strict):
    """How a model is asked.

    Attributes:
        before: text before the pictures.
        text: text behind them; {hint}, {question} and {options} are replaced.
        mode: decoding.
        options: generation options; the model's defaults where left out.
        source: where prompt and decoding are published.
        same: whether they are those of the published figure.
        because: why, or why not.
    """

    before: str = ""
    text: str = "{hint}{question}"
    mode: Mode = "greedy"
    options: dict[str, Any] = {}
    source: str
    same: bool = False
    because: str

    def message(self, row: Row, pictures: list[Picture]) -> list[Part]:
        """Return the parts of the message that asks a question."""
        options = "".join(f"{letter}. {text}\n" for letter, text in row.asked.options.items())
        parts = {
            "hint": f"Hint: {row.hint}\n" if row.hint else "",
            "question": row.question,
            "options": f"Options:\n{options}" if options else "",
        }
        text = _GAP.sub(lambda gap: parts[gap[1]], self.text)  # in one pass: cells may have braces
        whole: list[Part] = [self.before, *pictures, text]
        return [part for part in whole if part]

    def ask(self, row: Row, history: Conversation) -> Conversation:
        """Return the conversation that asks a question; opens its pictures."""
        if history.messages and history.messages[-1].role == "user":  # an exported conversation, asked as it stands
            return history
        return history.with_message("user", *self.message(row, row.opened()))

    def chosen(self, card: ModelCard, mode: Mode | None, given: Mapping[str, Any]) -> Options:
        """Return the generation options, overridden by those that the user gave."""
        own = {} if mode not in (None, self.mode) else self.options
        return options_for(card, mode or self.mode, **{**own, **given})


class Published(_Strict):
    """A published figure.

    Attributes:
        figure: as published.
        source: where.
        of: name of the figure that it is; the benchmark's main one if empty.
        split: the split that it is of; all questions if empty.
        complement: whether it was published as 100 minus that figure.
    """

    figure: float
    source: str
    of: str = ""
    split: str = ""
    complement: bool = False

    @property
    def value(self) -> float:
        """What the measured figure is compared with."""
        return round(100 - self.figure, 6) if self.complement else self.figure

    @property
    def name(self) -> str:
        """What it is, if it is not the main figure of all questions."""
        split = f"split {self.split}" if self.split else ""
        given = f"published as 100 − {self.of} = {self.figure:g}" if self.complement else ""
        return ", ".join(filter(None, (self.of, split, given)))


class Benchmark(_Strict):
    """A benchmark.

    Attributes:
        name: name on the command line.
        title: its name.
        files: names of its files without their ending, as VLMEvalKit distributes them.
        metric: its metric; None for the one that fits the columns.
        scale: what the main figure, in per cent, is multiplied by: 10 for OCRBench, whose points are of 1000.
        note: what a reader should know.
        settings: by name of the model; "default" for all others.
        published: by name of the model.
        judge: how a judge model marks the answers; None if none can.
    """

    name: str
    title: str
    files: tuple[str, ...] = ()
    metric: str | None = None
    scale: float = 1.0
    note: str = ""
    settings: dict[str, Setting]
    published: dict[str, Published] = {}
    judge: Judge | None = None

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str | None) -> str | None:
        if metric is not None and metric not in NAMES:
            raise ValueError(f"expected one of {', '.join(NAMES)}")
        return metric

    def setting(self, card: ModelCard) -> Setting:
        """Return how a model is asked."""
        return self.settings.get(card.base_name, self.settings[PLAIN])

    def published_for(self, card: ModelCard) -> Published | None:
        """Return what was published for a model, or for the one that its adapter was trained for."""
        return self.published.get(card.base_name)


@lru_cache
def benchmarks() -> dict[str, Benchmark]:
    """Return all benchmarks by name.

    Raises:
        CheckpointError: A YAML file is not a benchmark.
    """
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.yaml"))}


def benchmark_for(path: Path, metric: str) -> Benchmark:
    """Return the benchmark of a file by its name, else the plain one, with the prompt for its metric."""
    for benchmark in benchmarks().values():
        if path.stem.lower() in (file.lower() for file in benchmark.files):
            return benchmark
    plain = benchmarks()[PLAIN]
    name = metric if metric in plain.settings else PLAIN
    return plain.model_copy(update={"title": path.name, "settings": {PLAIN: plain.settings[name]}})


def _read(path: Path) -> Benchmark:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        benchmark = Benchmark.model_validate(given | {"name": path.stem})
        if PLAIN not in benchmark.settings:
            raise ValueError(f"expected settings.{PLAIN}")
    except (ValidationError, ValueError, yaml.YAMLError, TypeError) as error:
        raise CheckpointError("card_unreadable", file=path.name, reason=error) from error
    return benchmark
