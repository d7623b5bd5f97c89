"""Ask a judge model on a server about answers; its replies are written at once and can be completed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from omnilmm.batch.answering import Prepare, answer_all
from omnilmm.batch.program import Bar, describe
from omnilmm.batch.rows import RowFile
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Greedy, Options
from omnilmm.evaluation.judges import Judge, Verdict, Verdicts, metric_of_judge, without_judge
from omnilmm.evaluation.metrics.base import Metric
from omnilmm.evaluation.rows import Row

COLUMNS = ("index", "prompt", "reply", "error", "judge")
KEY = ("index", "prompt")
OPTIONS = Greedy(max_new_tokens=1024)
Item = tuple[Row, str]  # a question and an answer to it
Answers = Mapping[str, Mapping[str, Any]]  # of a run, by index


def judged_file(folder: Path, judge: str) -> Path:
    """Return the file of the replies of a judge at its server in the folder of a run."""
    name = re.sub(r"[^\w.-]+", "-", judge)
    return folder / f"judged-{name}.jsonl"


class Judging:
    """A judge at work.

    Args:
        judge: prompt, and what is read from a reply.
        engine: the judge model.
        folder: for its replies.
        at_once: number of answers that are judged concurrently.
    """

    def __init__(self, judge: Judge, engine: Engine, folder: Path, at_once: int) -> None:
        self.judge, self.engine, self.at_once = judge, engine, at_once
        self.name = f"{engine.card.name} on {engine.device.value}"
        self.path = judged_file(folder, self.name)
        self._same = {"judge": f"{self.name}; {describe(OPTIONS)}"}

    def metric(self, rows: Sequence[Row], *runs: Answers) -> Metric:
        """Return the metric of a judge that has marked the answers of some runs; see `verdicts`."""
        counting = {row.asked.index: row for row in rows if row.counts}
        items = [
            (row, str(cells.get("answer") or ""))
            for answers in runs
            for index, row in counting.items()
            if (cells := answers.get(index))
        ]
        return metric_of_judge(self.judge, self.verdicts(items), counting, self.name)

    def verdicts(self, items: Iterable[Item]) -> Verdicts:
        """Ask about all answers that are not judged yet; an empty one needs no judge.

        An answer that two runs share is judged once, so that the judge's own variation is no difference of theirs.

        Raises:
            InputError: The file lacks a column that the prompt names, or the folder holds replies of another judge.
        """
        wanted = {(row.asked.index, answer): row for row, answer in items if answer.strip()}
        found: dict[tuple[str, str], Verdict] = {}
        asked: dict[tuple[str, str], str] = {}
        for (index, answer), row in wanted.items():
            plain = without_judge(row, answer) if self.judge.reads == "answer" else None
            if plain is not None:
                found[index, answer] = Verdict("", answer=plain)
            else:
                asked[index, answer] = self.judge.prompt(row, answer)
        return found | self._replies(asked)

    def _replies(self, asked: dict[tuple[str, str], str]) -> dict[tuple[str, str], Verdict]:
        keys = [(index, _digest(prompt)) for (index, _), prompt in asked.items()]
        prompts = [*asked.values()]
        with RowFile(self.path, COLUMNS, KEY, self._same) as file:
            missing = file.missing(keys)
            if missing:
                self._ask(file, [keys[number] for number in missing], [prompts[number] for number in missing])
            rows = {(str(row["index"]), str(row["prompt"])): row for row in file.rows}
        return {place: self._read(rows[key]) for place, key in zip(asked, keys, strict=True)}

    def _read(self, row: Mapping[str, Any]) -> Verdict:
        error = str(row.get("error") or "")
        reply = str(row.get("reply") or "")
        if error and not reply:
            return Verdict("", problem=f"the judge failed: {error}")
        return self.judge.read(reply)

    def _ask(self, file: RowFile, keys: Sequence[tuple[str, str]], prompts: Sequence[str]) -> None:
        questions: list[Prepare] = [partial(_prepare, prompt) for prompt in prompts]
        failed = 0
        with Bar(len(keys)) as bar, closing(answer_all(self.engine, questions, self.at_once)) as replies:
            for (index, prompt), reply in zip(keys, replies, strict=True):
                row = {"index": index, "prompt": prompt, "reply": reply.text}
                # With an error it is asked again by --resume.
                error = str(reply.error) if reply.finished is None else self.judge.read(reply.text).problem
                if error:
                    row["error"] = " ".join(error.split())
                    failed += 1
                file.append(row)
                bar.advance(failed)


def _prepare(prompt: str) -> tuple[Conversation, Options]:
    return Conversation().with_message("user", prompt), OPTIONS


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "backslashreplace")).hexdigest()[:16]
