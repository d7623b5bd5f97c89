"""The metrics by their names on the command line; definitions and sources are at the functions."""

from __future__ import annotations

from omnilmm.evaluation.metrics.base import Asked, Mark, Metric, accuracy
from omnilmm.evaluation.metrics.boxes import box_iou, literal
from omnilmm.evaluation.metrics.chair import Objects
from omnilmm.evaluation.metrics.chair import measure as measure_chair
from omnilmm.evaluation.metrics.charts import relaxed
from omnilmm.evaluation.metrics.choices import choice, circular
from omnilmm.evaluation.metrics.distance import anls
from omnilmm.evaluation.metrics.text import contains, exact
from omnilmm.evaluation.metrics.vqa import vqa_score
from omnilmm.evaluation.metrics.yes_no import measure as measure_yes_no
from omnilmm.evaluation.metrics.yes_no import mme, yes_no

CHAIR = "chair"  # needs a word list
JUDGE = "judge"  # needs a judge model: the answers are exported
METRICS = {
    metric.name: metric
    for metric in (
        Metric("exact", "exact match", exact, accuracy),
        Metric("literal", "exact to the letter", literal, accuracy),
        Metric("contains", "contains the answer", contains, accuracy),
        Metric("choice", "multiple choice", choice, accuracy),
        Metric("choice-circular", "multiple choice, circular", choice, circular),
        Metric("yes-no", "yes or no", yes_no, measure_yes_no),
        Metric("mme", "MME", yes_no, mme),
        Metric("vqa", "VQA score", vqa_score, lambda marked: accuracy(marked, "VQA score")),
        Metric("anls", "ANLS", anls, lambda marked: accuracy(marked, "ANLS")),
        Metric("relaxed", "relaxed accuracy", relaxed, lambda marked: accuracy(marked, "relaxed accuracy")),
        Metric("box", "box IoU", box_iou, lambda marked: accuracy(marked, "accuracy at IoU 0.5")),
    )
}
NAMES = (*METRICS, CHAIR, JUDGE)


def _not_marked(asked: Asked, answer: str) -> Mark:
    return Mark(0.0, out_of=0.0)


def metric_of(name: str, objects: Objects | None = None) -> Metric:
    """Return a metric by its name.

    Args:
        name: one of `NAMES`.
        objects: the word list, for CHAIR.
    """
    if name == CHAIR and objects is not None:
        return Metric(CHAIR, "CHAIR", objects.mark, measure_chair, lower_is_better=True)
    if name == JUDGE:
        return Metric(JUDGE, "marked by a judge model", _not_marked, lambda _: (), is_marked=False)
    return METRICS[name]
