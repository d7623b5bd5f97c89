"""The report of a run: JSON, VLMEvalKit's result table, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omnilmm.errors import OmniLMMError
from omnilmm.evaluation.figures import Figure
from omnilmm.evaluation.rows import Row
from omnilmm.evaluation.scoring import Scored, Scores
from omnilmm.evaluation.settings import Published

RESULT, PAGE = "result.json", "report.html"
MOST_SHOWN = 200  # wrong answers on the page
ODD = "backslashreplace"  # of file names that are not UTF-8
_SIDE = 320  # pixels of a picture on the page
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:24px auto;padding:0 16px;color:#1c2733}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2em}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:4px 8px;border-bottom:1px solid #dde3ea;vertical-align:top}
.bar{background:#e4e9ef;height:12px;border-radius:6px;min-width:160px}.bar i{display:block;height:12px;
border-radius:6px;background:#0d9488}article{display:flex;gap:16px;border-top:1px solid #dde3ea;padding:12px 0}
article img{max-width:240px;max-height:240px;display:block;margin-bottom:4px}dl{margin:0;min-width:0}
dt{color:#5b6875;font-size:.85rem}dd{margin:0 0 6px;white-space:pre-wrap;overflow-wrap:anywhere}
.note{color:#5b6875}@media(max-width:600px){article{flex-direction:column}.bar{min-width:48px}
td,th{padding:4px}td:first-child,td:last-child{overflow-wrap:anywhere}}
"""


@dataclass(frozen=True)
class Report:
    """All there is to say about a run.

    Attributes:
        title: name of the benchmark.
        facts: model, device, dtype, settings and so on, in the order of the page.
        same: whether the settings are those of the published figure, and why.
        published: what the makers published; None if there is nothing.
        scores: the marks.
        changes: the comparison with another run, if there is one.
        unmarked: why the answers are not marked; empty if they are.
    """

    title: str
    facts: Mapping[str, str]
    same: str
    published: Published | None
    scores: Scores
    changes: Comparison | None = None
    unmarked: str = ""

    @property
    def measured(self) -> Figure | None:
        """The measured figure that the published one belongs to; None if there is none."""
        if self.published is None:
            return None
        if self.published.split:
            return self.scores.splits.get(self.published.split)
        name = self.published.of
        return next((one for one in self.scores.figures if name in ("", one.name)), None)

    @property
    def published_line(self) -> str:
        """The published figure, what it is, and the measured one beside it where that is not the main figure."""
        if self.published is None:
            return "–"
        name, measured = self.published.name, self.measured
        if not name:
            return f"{self.published.value:g}"
        return f"{self.published.value:g} ({name}); measured here: {measured if measured is not None else '–'}"


@dataclass(frozen=True)
class Comparison:
    """The comparison with another run.

    Attributes:
        name: name of the other run.
        differences: of the figures, this run's minus the other's.
        rows: (this run's, the other's) of the questions whose marks differ, or whose answers do if nobody marks them.
        settings: this run's model and settings, and the other's, without what they have in common.
        is_marked: whether the answers are marked.
    """

    name: str
    differences: Sequence[Figure]
    rows: Sequence[tuple[Scored, Scored]] = field(default_factory=list)
    settings: tuple[str, str] = ("", "")
    is_marked: bool = True

    @property
    def counted(self) -> str:
        """How many questions changed."""
        return f"{len(self.rows)} questions whose {'marks' if self.is_marked else 'answers'} differ"

    @property
    def apart(self) -> str:
        """How the settings of the two differ; empty if they do not."""
        this, other = (settings or "–" for settings in self.settings)
        return f"asked in different ways: this run by {this}, {self.name} by {other}" if any(self.settings) else ""


def write_report(report: Report, folder: Path) -> None:
    """Write the JSON file and the page."""
    text = json.dumps(_document(report), ensure_ascii=False, indent=1)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8", errors=ODD)
    (folder / PAGE).write_text(page(report), encoding="utf-8", errors=ODD)


def write_table(rows: Sequence[Row], answers: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write VLMEvalKit's table of predictions: the columns of the benchmark without pictures, and `prediction`."""
    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    with path.open("w", encoding="utf-8", errors=ODD, newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["index", *(name for name in names if name != "index"), "prediction"])
        for row in rows:
            cells = [_cell(row.cells.get(name, "")) for name in names if name != "index"]
            table.writerow([row.asked.index, *cells, answers.get(row.asked.index, {}).get("answer", "")])


def write_judge_file(scored: Sequence[Scored], path: Path) -> None:
    """Write a JSON line for each question, with all that a judge model needs but the pictures."""
    with path.open("w", encoding="utf-8", errors=ODD) as file:
        for item in scored:
            asked = item.row.asked
            line: dict[str, Any] = {"index": asked.index, "question": item.row.question, "hint": item.row.hint}
            line |= {"category": asked.category, "reference": list(asked.answers), "prediction": item.answer}
            file.write(json.dumps(line | dict(item.row.cells), ensure_ascii=False) + "\n")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _document(report: Report) -> dict[str, Any]:
    scores, changes = report.scores, report.changes
    document: dict[str, Any] = {
        "benchmark": report.title,
        **report.facts,
        "same settings as published": report.same,
        "published": report.published.value if report.published else None,
        "published is": report.published.name if report.published else "",
        "figures": [asdict(one) for one in scores.figures],
        "categories": {name: asdict(one) for name, one in scores.categories.items()},
        "l2-categories": {name: asdict(one) for name, one in scores.coarse.items()},
        "splits": {name: asdict(one) for name, one in scores.splits.items()},
        "questions": len(scores.scored),
        "not scored as they stand": {item.row.asked.index: item.problem for item in scores.problems},
        "wrong": [item.row.asked.index for item in scores.wrong] if scores.is_marked else None,
    }
    if changes is not None:
        document["compared with"] = changes.name
        document["settings that differ"] = dict(zip(("this", "other"), changes.settings, strict=True))
        document["differences"] = [asdict(one) for one in changes.differences]
        document["changed"] = [
            {"index": one.row.asked.index, "this": one.answer, "other": other.answer, "expected": one.row.asked.answers}
            for one, other in changes.rows
        ]
    return document


def page(report: Report) -> str:
    """Return the report as an HTML page."""
    scores = report.scores
    parts = [f"<h1>{_safe(report.title)}</h1>", _facts(report)]
    if scores.figures:
        parts.append(f"<h2>Figures</h2>{_table(scores.figures)}")
    for title, group in (
        ("Splits", scores.splits),
        ("Coarser categories", scores.coarse),
        ("Categories", scores.categories),
    ):
        if len(group) > 1:
            parts.append(_bars(title, group))
    if report.changes is not None:
        parts.append(_changes(report.changes))
    if scores.problems:
        parts.append(_problems(scores.problems))
    unmarked = f"<h2>The answers are not marked</h2><p class=note>{_safe(report.unmarked)}</p>"
    parts.append(_wrong(scores.wrong) if scores.is_marked else unmarked)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; "
        f"style-src 'unsafe-inline'\"><title>{_safe(report.title)}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _facts(report: Report) -> str:
    facts = {**report.facts, "published figure": report.published_line, "same settings as published": report.same}
    rows = "".join(f"<tr><th>{_safe(name)}<td>{_safe(value)}" for name, value in facts.items())
    return f"<table>{rows}</table>"


def _table(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    head = "<tr><th>figure<th>value<th>95 % interval (bootstrap)<th>units"
    rows = "".join(
        f"<tr><td>{_safe(one.name)}<td>{one.shown(one.value)}<td>{one.interval}<td>{one.units}" for one in figures
    )
    return f"<table>{head}{rows}</table>"


def _bars(title: str, group: Mapping[str, Figure]) -> str:
    rows = "".join(
        f"<tr><td>{_safe(name)}<td><div class=bar><i style='width:{_share(one):.1f}%'></i></div>"
        f"<td>{one.shown(one.value)}<td class=note>{one.interval}<td class=note>{one.units}"
        for name, one in group.items()
    )
    return f"<h2>{_safe(title)}</h2><table>{rows}</table>"


def _changes(changes: Comparison) -> str:
    shown = "".join(
        f"<tr><td>{_safe(one.row.asked.index)}<td>{_safe(one.row.question)}"
        f"<td>{_safe(' / '.join(one.row.asked.answers))}<td>{_safe(one.answer)}<td>{_safe(other.answer)}"
        for one, other in changes.rows[:MOST_SHOWN]
    )
    head = "<tr><th>index<th>question<th>expected<th>this run<th>the other"
    return (
        f"<h2>Difference from {_safe(changes.name)}</h2>{_table(changes.differences)}"
        f"<p class=note>{_safe(changes.apart)}</p>"
        f"<h2>{changes.counted}</h2>{_left_out(len(changes.rows))}"
        f"<table>{head}{shown}</table>"
    )


def _problems(problems: Sequence[Scored]) -> str:
    rows = "".join(f"<tr><td>{_safe(item.row.asked.index)}<td>{_safe(item.problem)}" for item in problems[:MOST_SHOWN])
    title = f"{len(problems)} questions without an answer, or with one that was cut off or cannot be read"
    return f"<h2>{title}</h2>{_left_out(len(problems))}<table>{rows}</table>"


def _wrong(wrong: Sequence[Scored]) -> str:
    shown = "".join(_article(item) for item in wrong[:MOST_SHOWN])
    has_shares = any(0 < item.mark.credit < 1 for item in wrong)
    title = "answers without the full mark" if has_shares else "wrong answers"
    return f"<h2>{len(wrong)} {title}</h2>{_left_out(len(wrong))}{shown}"


def _left_out(count: int) -> str:
    left = count - MOST_SHOWN
    return f"<p class=note>The first {MOST_SHOWN}; {left} more are in {RESULT}.</p>" if left > 0 else ""


def _article(item: Scored) -> str:
    options = "\n".join(f"{letter}. {text}" for letter, text in item.row.asked.options.items())
    details = {
        "question": item.row.question + (f"\n{options}" if options else ""),
        "expected": " / ".join(item.row.asked.answers),
        "given": item.answer or item.problem,
    }
    if item.mark.read and item.mark.read != item.answer:
        details["read as"] = item.mark.read
    if item.mark.note:
        details["the judge"] = item.mark.note
    listed = "".join(f"<dt>{name}<dd>{_safe(text)}</dd>" for name, text in details.items())
    title = " · ".join(filter(None, (item.row.asked.index, item.row.asked.category)))
    return f"<article><div>{_pictures(item.row)}</div><dl><dt>{_safe(title)}</dt>{listed}</dl></article>"


def _pictures(row: Row) -> str:
    try:
        pictures = [*row.opened(earlier=True), *(row.history.messages[-1].pictures if row.history.messages else ())]
    except (OmniLMMError, ValueError):
        return "<p class=note>the picture cannot be read</p>"
    found = []
    for picture in pictures:
        small, file = picture.image.copy(), io.BytesIO()
        small.thumbnail((_SIDE, _SIDE))
        small.save(file, "JPEG", quality=80)
        found.append(f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'>")
    return "".join(found)


def _safe(text: str) -> str:
    return html.escape(text)


def _share(one: Figure) -> float:
    return min(max(100 * (one.value or 0) / one.most, 0), 100) if one.most else 0
