"""Mark the answers of a run and sum the marks up: overall, by category, by split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnilmm.errors import InputError
from omnilmm.evaluation.figures import Figure, difference, figure
from omnilmm.evaluation.metrics.base import Asked, Mark, Marked, Metric
from omnilmm.evaluation.rows import Row
from omnilmm.evaluation.running import ANSWERS

NO_ANSWER, CUT = "no answer", "cut off at the length limit"


@dataclass(frozen=True)
class Scored:
    """A question with the model's answer and its mark.

    Attributes:
        row: the question.
        answer: the answer; empty if there is none.
        error: why there is none.
        mark: its mark; 0 without an answer.
        problem: what kept it from being scored as it stands, if anything.
    """

    row: Row
    answer: str
    error: str
    mark: Mark
    problem: str = ""

    @property
    def is_right(self) -> bool:
        """Whether it has the full mark."""
        return self.mark.credit >= 1


@dataclass(frozen=True)
class Scores:
    """All marks of a run.

    Attributes:
        figures: over all questions, the main one first.
        categories, coarse, splits: the main figure by category, coarser category and split.
        scored: the questions that count.
        is_marked: whether they were marked; False for a benchmark that needs a judge model.
    """

    figures: tuple[Figure, ...]
    categories: Mapping[str, Figure]
    coarse: Mapping[str, Figure]
    splits: Mapping[str, Figure]
    scored: tuple[Scored, ...]
    is_marked: bool = True

    @property
    def wrong(self) -> tuple[Scored, ...]:
        """The questions without the full mark; none if nobody marked them."""
        return tuple(item for item in self.scored if self.is_marked and not item.is_right)

    @property
    def problems(self) -> tuple[Scored, ...]:
        """The questions that have no answer, or one that was cut off or that a metric could not read."""
        return tuple(item for item in self.scored if item.problem)


def read_answers(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the answers of a run by index.

    Raises:
        InputError: There are none, or they cannot be read.
    """
    path = folder / ANSWERS
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return {str(cells["index"]): cells for cells in map(json.loads, lines)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("run_unreadable", path=path, reason=getattr(error, "strerror", None) or error) from error


def score(rows: Iterable[Row], answers: Mapping[str, Mapping[str, Any]], metric: Metric) -> tuple[Scored, ...]:
    """Mark all questions that count; one without an answer is wrong."""
    return tuple(_scored(row, answers.get(row.asked.index, {}), metric) for row in rows if row.counts)


def _scored(row: Row, cells: Mapping[str, Any], metric: Metric) -> Scored:
    answer, error = str(cells.get("answer") or ""), str(cells.get("error") or "")
    if not answer.strip():
        # Without an answer nothing was hallucinated, but neither was the question answered.
        mark = Mark(0.0, out_of=metric.weight, gained=1.0 if metric.lower_is_better else 0.0)
        return Scored(row, answer, error, mark, error or NO_ANSWER)
    mark = metric.mark(row.asked, answer)
    cut = CUT if cells.get("reason") == "length" else ""
    return Scored(row, answer, error, mark, "; ".join(filter(None, (cut, mark.problem))))


def summed(scored: Sequence[Scored], metric: Metric, scale: float = 1.0) -> Scores:
    """Sum marks up."""

    def by(value: Callable[[Row], str]) -> dict[str, Figure]:
        names = sorted({value(item.row) for item in scored} - {""})
        parts = {name: [item for item in scored if value(item.row) == name] for name in names}
        return {name: main for name, part in parts.items() if (main := _main(part, metric)) is not None}

    measured = metric.measure(_marked(scored))
    return Scores(
        tuple(figure(one, scale if not number else 1.0) for number, one in enumerate(measured)),
        by(lambda row: row.asked.category),
        by(lambda row: row.coarse),
        by(lambda row: row.split),
        tuple(scored),
        metric.is_marked,
    )


def compared(one: Sequence[Scored], other: Sequence[Scored], metric: Metric, scale: float = 1.0) -> list[Figure]:
    """Return the differences of the figures over the questions that both have, which are drawn together."""
    common = {item.row.asked.index for item in one} & {item.row.asked.index for item in other}
    pair = [
        metric.measure(_marked([item for item in scored if item.row.asked.index in common])) for scored in (one, other)
    ]
    return [
        difference(first, second, scale if not number else 1.0)
        for number, (first, second) in enumerate(zip(*pair, strict=True))
    ]


def settings_apart(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Return how two runs were asked, without what they have in common; both are empty if there is no difference."""
    first, second = _asked(one), _asked(other)
    return "; ".join(part for part in first if part not in second), "; ".join(
        part for part in second if part not in first
    )


def _asked(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return model and settings of a run, which all its answers share."""
    cells = next(iter(answers.values()), {})
    computed = [f"computed in {cells['dtype']}"] if cells.get("dtype") else []
    return [f"model {cells.get('model')}", *str(cells.get("settings", "")).split("; "), *computed]


def _main(scored: Sequence[Scored], metric: Metric) -> Figure | None:
    measured = metric.measure(_marked(scored))
    return figure(measured[0]) if measured else None


def _marked(scored: Sequence[Scored]) -> Marked:
    marked: list[tuple[Asked, Mark]] = [(item.row.asked, item.mark) for item in scored]
    return marked
