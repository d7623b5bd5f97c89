"""Evaluate a model on a benchmark, or on anybody's own questions.

python -m omnilmm.evaluation questions.tsv --model minicpm-v-2.6 --out runs/mine
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omnilmm import __version__
from omnilmm.catalog import ModelCard
from omnilmm.engine.events import Engine
from omnilmm.engine.options import ABILITIES, LIMITS, MODES, Options
from omnilmm.engine.servers import Servers
from omnilmm.errors import InputError, OmniLMMError, OptionsError
from omnilmm.evaluation.judges import Judge
from omnilmm.evaluation.judging import Judging
from omnilmm.evaluation.metrics import CHAIR, JUDGE, NAMES, metric_of
from omnilmm.evaluation.metrics.base import Metric
from omnilmm.evaluation.metrics.chair import Objects
from omnilmm.evaluation.report import PAGE, Comparison, Report, write_judge_file, write_report, write_table
from omnilmm.evaluation.rows import Row, grouped, metric_for, read_rows
from omnilmm.evaluation.running import ANSWERS, Run
from omnilmm.evaluation.scoring import Scored, compared, read_answers, score, settings_apart, summed
from omnilmm.evaluation.settings import PLAIN, Benchmark, Setting, benchmark_for, benchmarks
from omnilmm.model_lookup import find
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flag_values import check_for_server, engine_keys, loading_arguments, loading_line, second_keys
from omnilmm.ui.flags import Parser, add_loading_flags
from omnilmm.ui.streams import configure_streams, one_line

OPTIONS = {name: int if limit.whole else float for name, limit in LIMITS.items() if name not in ABILITIES}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    top = Parser(prog="python -m omnilmm.evaluation", description="Ask a model questions and score its answers.")
    top.add_argument(
        "file", type=Path, help="VLMEvalKit's TSV, a CSV, JSONL, an exported conversation, or a folder of these exports"
    )
    top.add_argument("--benchmark", choices=list(benchmarks()), help="(default: by the name of the file)")
    top.add_argument("--metric", choices=NAMES, help="(default: the benchmark's, or what fits the columns)")
    top.add_argument("--words", type=Path, metavar="FILE", help="for chair: a line per object, synonyms with commas")
    top.add_argument("--limit", type=_positive, metavar="N", help="only the first N questions")
    top.add_argument("--out", type=Path, metavar="DIR", help="(default: evaluation/FILE-MODEL)")
    top.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    top.add_argument("--compare", type=Path, metavar="DIR", help="the folder of another run of the same file")
    top.add_argument("--at-once", type=_positive, default=8, metavar="N", help="(default: %(default)s)")
    judging = top.add_argument_group("a judge model, for --metric judge (it gets texts, no pictures)")
    judging.add_argument(
        "--judge-url", metavar="URL", help="its OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1"
    )
    judging.add_argument("--judge-model", metavar="ID", help="its id there (default: the only one)")
    judging.add_argument(
        "--judge-key", metavar="KEY", help="key of that server (default: OPENAI_API_KEY, unless --engine-url takes it)"
    )
    add_loading_flags(top)
    decoding = top.add_argument_group("decoding (the benchmark's where left out)")
    decoding.add_argument("--mode", choices=MODES)
    for name, kind in OPTIONS.items():
        decoding.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 for a report, 1 for an error or a stopped run, 2 for invalid flags.
    """
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    args = parser().parse_args(arguments)
    try:
        return _run(args)
    except OmniLMMError as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Error: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command with --resume goes on.", file=sys.stderr)
        return 1


@dataclass
class _Plan:
    """What is asked and how, known before the model is loaded."""

    rows: list[Row]
    metric: Metric
    benchmark: Benchmark
    card: ModelCard
    setting: Setting
    options: Options
    judge: Judge | None


def _of_server(args: argparse.Namespace) -> Engine | None:
    """Return the engine of a model on a server, if one is named."""
    if not args.engine_urls:
        return None
    check_for_server(args)
    return Servers(args.engine_urls, engine_keys(args)).choose(args.model).load()


def _plan(args: argparse.Namespace, server: Engine | None = None) -> _Plan:
    rows = read_rows(args.file)
    found = metric_for(rows)
    benchmark = benchmarks()[args.benchmark] if args.benchmark else benchmark_for(args.file, args.metric or found)
    name = args.metric or benchmark.metric or found
    judge = _judge(args, benchmark, name)
    if name == CHAIR and not args.words:
        raise InputError("chair_without_words")
    needs_answers = judge.needs_references if args.judge_url and judge else name != JUDGE
    if needs_answers and not all(row.asked.answers or row.asked.objects for row in rows if row.counts):
        raise InputError("benchmark_without_answers", path=args.file)
    rows = grouped(rows, name)[: args.limit]
    card = server.card if server else find(str(loading_arguments(args)["model"]))
    setting = benchmark.setting(card)
    given = {option: value for option in OPTIONS if (value := getattr(args, option)) is not None}
    metric = metric_of(name, Objects.read(args.words) if name == CHAIR else None)
    if args.judge_url and judge:
        for row in rows:
            judge.prompt(row, "")  # the file has the columns that it names
    return _Plan(rows, metric, benchmark, card, setting, setting.chosen(card, args.mode, given), judge)


def _judge(args: argparse.Namespace, benchmark: Benchmark, metric: str) -> Judge | None:
    """Return how a judge model would mark the answers; None if another metric does, or nobody but its makers can."""
    judge = benchmark.judge
    if args.metric == JUDGE and benchmark.metric != JUDGE:
        judge = benchmarks()[PLAIN].judge
    if (args.judge_model or args.judge_key) and not args.judge_url:
        raise OptionsError("judge_without_url")
    if args.judge_url and metric != JUDGE:
        raise OptionsError("judge_not_asked", metric=metric)
    if args.judge_url and judge is None:
        raise OptionsError("judge_cannot", title=benchmark.title, note=benchmark.note)
    return judge if metric == JUDGE else None


def _judging(args: argparse.Namespace, plan: _Plan, folder: Path) -> Judging | None:
    """Return the judge that the user named, after asking its server for it."""
    if not args.judge_url or plan.judge is None:
        return None
    engine = Servers([args.judge_url], second_keys(args, args.judge_key)).choose(args.judge_model).load()
    return Judging(plan.judge, engine, folder, args.at_once)


def _run(args: argparse.Namespace) -> int:
    server = _of_server(args)
    plan = _plan(args, server)
    name = re.sub(r"[^\w.-]+", "-", plan.card.name if args.dtype == "auto" else f"{plan.card.name}-{args.dtype}")
    folder = args.out or Path("evaluation") / f"{args.file.stem}-{name}"
    if (folder / ANSWERS).exists() and not args.resume:
        raise InputError("run_exists", folder=folder)
    other = read_answers(args.compare) if args.compare else None
    judging = _judging(args, plan, folder)
    folder.mkdir(parents=True, exist_ok=True)
    loading = loading_line(args, server.device.value if server else None)
    run = Run(plan.rows, plan.card, plan.setting, plan.options, folder, loading)
    loaded: list[Engine] = []

    def engine() -> Engine:
        loaded.append(server or _loaded(args))
        return loaded[0]

    run.answer(engine, args.at_once)
    answers = read_answers(folder)
    if judging:
        plan.metric = judging.metric(plan.rows, answers, other or {})
    scored = score(plan.rows, answers, plan.metric)
    scores = summed(scored, plan.metric, plan.benchmark.scale)
    changes = _changes(args.compare, plan, scored, answers, other) if other is not None else None
    report = Report(
        plan.benchmark.title,
        _facts(args, plan, answers, loaded[0] if loaded else None),
        _same(args, plan, judging),
        plan.benchmark.published_for(plan.card),
        scores,
        changes,
        _unmarked(plan),
    )
    write_report(report, folder)
    write_table(plan.rows, answers, folder / f"{name}_{args.file.stem}.tsv")
    if plan.metric.name == JUDGE:
        write_judge_file(scored, folder / "judge.jsonl")
    _print_report(report, folder, plan)
    return 0


def _loaded(args: argparse.Namespace) -> Engine:
    from omnilmm.engine.loading import load_engine

    with DownloadBar() as bar:
        return load_engine(**loading_arguments(args), report=bar.report)


def _facts(
    args: argparse.Namespace, plan: _Plan, answers: dict[str, dict[str, Any]], engine: Engine | None
) -> dict[str, str]:
    settings = next((str(cells.get("settings")) for cells in answers.values()), "")
    tokens = sum(int(cells.get("new_tokens") or 0) for cells in answers.values())
    seconds = sum(float(cells.get("seconds") or 0) for cells in answers.values())
    facts = {
        "model": f"{plan.card.title} ({plan.card.source})",
        "file": str(args.file),
        "metric": plan.metric.title,
        "decoding": settings,
        "prompt from": plan.setting.source,
        "questions": str(sum(row.counts for row in plan.rows)),
        "answers": f"{tokens} tokens; {seconds:.0f} s of answering, several at once",
        "versions": f"OmniLMM Chat {__version__}, " + ", ".join(f"{n} {version(n)}" for n in ("torch", "transformers")),
    }
    if engine is not None:
        facts["device"] = f"{engine.device}, {engine.dtype}"  # each with its reason
    if plan.benchmark.note:
        facts["note"] = plan.benchmark.note
    if plan.judge is not None and plan.metric.is_marked:
        facts["judge's prompt and scale from"] = plan.judge.source
    return facts


def _unmarked(plan: _Plan) -> str:
    """Say why the answers are not marked; empty if they are."""
    if plan.metric.is_marked:
        return ""
    if plan.judge is None:
        return f"Nobody can mark them here. {plan.benchmark.note}"
    return "They need a judge model: name one with --judge-url and --resume, or give it judge.jsonl."


def _same(args: argparse.Namespace, plan: _Plan, judging: Judging | None = None) -> str:
    """Say whether the settings are those of the published figure, and why."""
    reasons = [] if plan.setting.same else [plan.setting.because]
    if args.limit:
        reasons.append(f"only the first {len(plan.rows)} questions were asked")
    if args.mode or any(getattr(args, option) is not None for option in OPTIONS):
        reasons.append("the decoding was chosen on the command line")
    if args.metric and args.metric != plan.benchmark.metric:
        reasons.append("the metric was chosen on the command line")
    if args.dtype in ("int8", "int4"):
        reasons.append(f"the weights were quantised to {args.dtype}")
    if args.max_slices is not None:
        reasons.append(f"pictures were cut into at most {args.max_slices} slices, as chosen on the command line")
    if args.revision:
        reasons.append(f"the revision {args.revision} of the model was chosen on the command line")
    if plan.card.adapter is not None:
        reasons.append("an adapter was loaded")
    if args.engine_urls:
        reasons.append("a server renders the prompt and computes in its own dtype")
    if judging and not judging.judge.same:
        reasons.append(f"the judge was {judging.name}, and {judging.judge.because}")
    return f"no, because {'; '.join(reasons)}" if reasons else f"yes: {plan.setting.because}"


def _changes(
    folder: Path,
    plan: _Plan,
    scored: Sequence[Scored],
    answers: dict[str, dict[str, Any]],
    other: dict[str, dict[str, Any]],
) -> Comparison:
    """Compare with another run, whose answers are marked anew by the same metric."""
    answered = [row for row in plan.rows if row.asked.index in other]
    if not answered:
        raise InputError("nothing_in_common", folder=folder)
    theirs = score(answered, other, plan.metric)
    by_index = {item.row.asked.index: item for item in theirs}
    changed = [
        (item, by_index[item.row.asked.index])
        for item in scored
        if item.row.asked.index in by_index and _differ(item, by_index[item.row.asked.index], plan.metric)
    ]
    differences = compared(scored, theirs, plan.metric, plan.benchmark.scale)
    return Comparison(str(folder), differences, changed, settings_apart(answers, other), plan.metric.is_marked)


def _differ(one: Scored, other: Scored, metric: Metric) -> bool:
    """Return whether the marks of two answers differ, or the answers themselves if nobody marks them."""
    if not metric.is_marked:
        return one.answer != other.answer
    return (one.mark.credit, one.mark.sum, one.mark.out_of) != (other.mark.credit, other.mark.sum, other.mark.out_of)


def _print_report(report: Report, folder: Path, plan: _Plan) -> None:
    print(f"{report.title}: {report.facts['questions']} questions, {plan.card.title}")
    for figure in report.scores.figures:
        print(f"  {figure.name}: {figure}")
    if report.published is not None:
        print(f"  published: {report.published_line}; same settings: {report.same}")
    if report.changes and report.changes.apart:
        print(f"  {report.changes.apart}")
    for figure in report.changes.differences if report.changes else ():
        print(f"  {figure.name}, difference: {figure}")
    if report.changes:
        print(f"  {report.changes.counted}")
    for name, one in report.scores.categories.items() if len(report.scores.categories) > 1 else ():
        print(f"    {name}: {one}")
    if report.scores.problems:
        count = len(report.scores.problems)
        print(f"  {count} have no answer, or one that was cut off or cannot be read; the report lists them.")
    if report.unmarked:
        print(f"  The answers are not marked. {report.unmarked} VLMEvalKit takes the table: {folder}")
    print(f"Report: {folder / PAGE}")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
