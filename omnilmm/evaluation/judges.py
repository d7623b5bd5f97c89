"""How a judge model marks answers: its prompt, what is read from its reply, and the figures.

A judge reads text alone: question, right answer and answer, and whatever columns its prompt names. Scales and sums are
those of the published evaluation code (`judge.source` in `configs/evaluation/*.yaml`); the prompts are ours.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from omnilmm.errors import InputError
from omnilmm.evaluation.metrics import JUDGE
from omnilmm.evaluation.metrics.base import Asked, Mark, Marked, Measured, Metric, Ratio, accuracy
from omnilmm.evaluation.metrics.choices import letter_of
from omnilmm.evaluation.rows import Row

REFERENCE = "reference"  # the right answers, in a prompt
UNREADABLE, NOT_ASKED = "the judge's reply has no {wanted}: {reply}", "the judge has not marked it"
MOST_SHOWN = 80  # characters of a reply that cannot be read
_GAP = re.compile(r"\{([\w-]+)\}")
_RATING = re.compile(r"\brating[\s:*_=\[]{0,9}(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_TWO = re.compile(r"^[\s*_\[(]*(\d+(?:\.\d+)?)[ \t,;]+(\d+(?:\.\d+)?)[\s*_\]).]*$", re.MULTILINE)
_BEFORE = re.compile(r"^(?:(?:extracted|final) )?answer\s*:\s*", re.IGNORECASE)


class Judge(BaseModel):
    """How a judge model marks the answers of a benchmark.

    Attributes:
        text: its prompt; {question}, {hint}, {options}, {reference}, {answer} and the columns of the file are replaced.
        reads: what its reply has: "Rating: N"; two ratings in one line, first the reference's; or the answer without
            the text around it, which is compared with the right one.
        most: the highest rating.
        right_from: the rating from which an answer is right.
        figure: name of the main figure.
        source: where scale, sums and prompt are published.
        same: whether all of them are the published ones.
        because: why not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    reads: Literal["rating", "two-ratings", "answer"] = "rating"
    most: float = 1.0
    right_from: float = 1.0
    figure: str = "accuracy by the judge"
    source: str
    same: bool = False
    because: str

    @property
    def needs_references(self) -> bool:
        """Whether every question must have a right answer."""
        return f"{{{REFERENCE}}}" in self.text or self.reads == "answer"

    def prompt(self, row: Row, answer: str) -> str:
        """Return the prompt about an answer.

        Raises:
            InputError: The file lacks a column that the prompt names.
        """
        own = {"question": row.question, "hint": row.hint, REFERENCE: " / ".join(row.asked.answers), "answer": answer}
        own["options"] = "".join(f"{letter}. {text}\n" for letter, text in options_of(row).items())

        def filled(gap: re.Match[str]) -> str:
            name = gap[1]
            if name not in own and name not in row.cells:
                raise InputError("judge_without_column", column=name, index=row.asked.index)
            return own[name] if name in own else str(row.cells[name])

        return _GAP.sub(filled, self.text)  # in one pass: cells may have braces

    def read(self, reply: str) -> Verdict:
        """Read a reply; one that cannot be read is a verdict with a problem."""
        found = {"rating": self._rating, "two-ratings": self._two_ratings, "answer": self._answer}[self.reads](reply)
        if found is not None:
            return found
        wanted = {
            "rating": f"rating from 0 to {self.most:g}",
            "two-ratings": f"two ratings from 1 to {self.most:g}",
            "answer": "text",
        }[self.reads]
        return Verdict(
            reply, problem=UNREADABLE.format(wanted=wanted, reply=" ".join(reply.split())[:MOST_SHOWN] or "–")
        )

    def _rating(self, reply: str) -> Verdict | None:
        ratings = [float(number) for number in _RATING.findall(reply)][-1:]
        return Verdict(reply, rating=ratings[0]) if ratings and 0 <= ratings[0] <= self.most else None

    def _two_ratings(self, reply: str) -> Verdict | None:
        pair = _TWO.search(reply)
        if pair is None or not all(0 < float(number) <= self.most for number in pair.groups()):
            return None
        return Verdict(reply, rating=float(pair[2]), reference=float(pair[1]))

    def _answer(self, reply: str) -> Verdict | None:
        lines = [line.strip() for line in reply.splitlines() if line.strip()]
        return Verdict(reply, answer=_BEFORE.sub("", lines[-1]).strip(" *`")) if lines else None


@dataclass(frozen=True)
class Verdict:
    """What a judge says about an answer.

    Attributes:
        reply: its whole reply.
        rating: of the answer.
        reference: rating of the reference, if both are rated.
        answer: the answer without the text around it, if the judge finds it.
        problem: why there is none of these.
    """

    reply: str
    rating: float = 0.0
    reference: float = 0.0
    answer: str = ""
    problem: str = ""


Verdicts = Mapping[tuple[str, str], Verdict]  # by index and answer


def options_of(row: Row) -> dict[str, str]:
    """Return the options of a question: the columns `A` …, or those of a list in the column `choices` (MathVista)."""
    if row.asked.options or "choices" not in row.cells:
        return dict(row.asked.options)
    try:
        found = ast.literal_eval(str(row.cells["choices"]))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    return {chr(ord("A") + n): str(text) for n, text in enumerate(found[:26])} if isinstance(found, list) else {}


def without_judge(row: Row, answer: str) -> str | None:
    """Return the answer as a judge would find it, if it is plain: a number, or one that names an option."""
    options = options_of(row)
    if options:
        return _option(answer, options)
    return answer.strip() if _number(answer) is not None else None


def agrees(row: Row, answer: str) -> bool:
    """Return whether an answer without the text around it is a right one.

    An option by its letter or its text, a number by its value, a text regardless of case. Source: `post_check` of
    VLMEvalKit for MathVista, which marks all answers that are texts or lists as wrong; here they are compared.
    """
    options = options_of(row)
    rights = {str(row.cells["answer_option"])} if row.cells.get("answer_option") else {*row.asked.answers}
    if options:
        letter = _option(answer, options) or ("" if _is_none(answer) else letter_of(answer, options))
        return letter in options and (letter in rights or options[letter] in rights)
    return any(_same(right, answer) for right in row.asked.answers)


def metric_of_judge(judge: Judge, verdicts: Verdicts, rows: Mapping[str, Row], model: str) -> Metric:
    """Return the metric of the verdicts of a judge model on these rows."""

    def mark(asked: Asked, answer: str) -> Mark:
        verdict = verdicts.get((asked.index, answer), Verdict("", problem=NOT_ASKED))
        if verdict.problem:
            return Mark(0.0, out_of=_weight(judge), gained=0.0, problem=verdict.problem)
        if judge.reads == "answer":
            return Mark(float(agrees(rows[asked.index], verdict.answer)), verdict.answer)
        if judge.reads == "two-ratings":
            read = f"rated {verdict.rating:g}, the reference {verdict.reference:g}"
            credit = min(1.0, verdict.rating / verdict.reference)
            return Mark(credit, read, verdict.reference, verdict.rating, note=verdict.reply)
        right = float(verdict.rating >= judge.right_from)
        return Mark(right, f"rating {verdict.rating:g}", gained=verdict.rating, note=verdict.reply)

    return Metric(
        JUDGE, f"marked by a judge model, {model}", mark, lambda marked: _measure(judge, marked), weight=_weight(judge)
    )


def _weight(judge: Judge) -> float:
    """Return what an answer without a mark is out of: as if the reference had the highest rating."""
    return judge.most if judge.reads == "two-ratings" else 1.0


def _measure(judge: Judge, marked: Marked) -> tuple[Measured, ...]:
    if judge.reads == "answer" or (judge.reads == "rating" and judge.most == 1):
        return accuracy(marked, judge.figure)
    units = [asked.index for asked, _ in marked]
    ratings, ones = [mark.sum for _, mark in marked], [1.0] * len(marked)
    if judge.reads == "two-ratings":
        relative = Ratio(judge.figure, ratings, [mark.out_of for _, mark in marked], units=units)
        return relative, Ratio("mean rating", ratings, ones, scale=1.0, most=judge.most, units=units)
    shares = [mark.credit for _, mark in marked]
    return (
        Ratio(judge.figure, ratings, ones, scale=1.0, most=judge.most, units=units),
        Ratio(f"rated {judge.right_from:g} or higher", shares, ones, units=units),
    )


def _option(answer: str, options: Mapping[str, str]) -> str | None:
    """Return the letter of the option whose letter or text is the whole answer; "no" is in "none" and "not", too."""
    plain = answer.strip(" \n.,:;()[]*`\"'")
    if plain in options:
        return plain
    return next((letter for letter, text in options.items() if text.strip().lower() == answer.strip().lower()), None)


def _is_none(answer: str) -> bool:
    return answer.strip(" .").lower() == "none"


def _same(right: str, answer: str) -> bool:
    one, other = _number(right), _number(answer)
    return one == other if one is not None and other is not None else right.strip().lower() == answer.strip().lower()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
