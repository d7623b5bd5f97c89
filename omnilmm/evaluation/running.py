"""Ask a model the questions of a benchmark, several at a time; answers are written at once and can be completed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from omnilmm.batch.answering import AT_ONCE, Prepare, Reply, answer_all
from omnilmm.batch.program import Bar, describe
from omnilmm.batch.rows import RowFile
from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Options
from omnilmm.errors import InputError
from omnilmm.evaluation.rows import Row
from omnilmm.evaluation.settings import Setting

COLUMNS = ("index", "answer", "error", "model", "settings", "reason", "new_tokens", "seconds", "dtype")
ANSWERS = "answers.jsonl"


class _Answers:
    """Answers by index, which later turns of a conversation wait for."""

    def __init__(self, given: dict[str, str]) -> None:
        self._given = given
        self._changed = threading.Condition()
        self._is_over = False

    def put(self, index: str, answer: str) -> None:
        with self._changed:
            self._given[index] = answer
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait_for(self, index: str) -> str:
        with self._changed:
            self._changed.wait_for(lambda: index in self._given or self._is_over)
            answer = self._given.get(index, "")
        if not answer:
            raise InputError("earlier_turn_failed", index=index)
        return answer


class Run:
    """A run of a benchmark.

    Args:
        rows: the questions.
        card: the model's card.
        setting: how it is asked.
        options: generation options.
        folder: for the answers.
        loading: how the model was loaded, which the answers of a run share.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        card: ModelCard,
        setting: Setting,
        options: Options,
        folder: Path,
        loading: str = "dtype auto",
    ) -> None:
        self.loading = loading
        self.rows, self.card, self.setting, self.options, self.folder = rows, card, setting, options, folder
        self.turns: dict[str, list[Row]] = {}  # of each conversation
        for row in rows:
            if row.conversation:
                self.turns.setdefault(row.conversation, []).append(row)

    def answer(self, engine: Callable[[], Engine], at_once: int = AT_ONCE) -> None:
        """Ask all questions that have no answer yet; the engine is loaded only if there are any.

        Raises:
            InputError: The folder holds answers of another run.
        """
        prompt = hashlib.sha256(f"{self.setting.before}\n{self.setting.text}".encode()).hexdigest()[:8]
        same = {"model": self.card.name, "settings": f"{describe(self.options)}; prompt {prompt}; {self.loading}"}
        with RowFile(self.folder / ANSWERS, COLUMNS, ("index",), same) as file:
            keys = [(row.asked.index,) for row in self.rows]
            missing = [self.rows[number] for number in file.missing(keys)]
            if missing:
                answers = _Answers({str(row["index"]): str(row["answer"]) for row in file.rows})
                loaded = engine()
                file.require("dtype", loaded.dtype.value)  # chosen by device and memory if not by the user
                self._ask(loaded, missing, file, answers, at_once)
            file.sort(keys)

    def _ask(self, engine: Engine, missing: Sequence[Row], file: RowFile, answers: _Answers, at_once: int) -> None:
        questions: Iterator[Prepare] = (partial(self._prepare, row, answers) for row in missing)
        failed = 0
        with (
            Bar(len(self.rows), len(self.rows) - len(missing)) as bar,
            closing(answer_all(engine, questions, at_once)) as replies,
        ):
            try:
                for row, reply in zip(missing, replies, strict=True):
                    file.append({"index": row.asked.index} | _cells(reply))
                    answers.put(row.asked.index, reply.text)
                    failed += reply.error is not None
                    bar.advance(failed)
            finally:
                answers.end()  # whoever waits for an earlier turn must not wait for ever

    def _prepare(self, row: Row, answers: _Answers) -> tuple[Conversation, Options]:
        history = row.history
        for turn in self.turns.get(row.conversation, []):
            if turn is row:
                break
            answer = answers.wait_for(turn.asked.index)
            history = self.setting.ask(turn, history).with_message("assistant", answer)
        return self.setting.ask(row, history), self.options


def _cells(reply: Reply) -> dict[str, object]:
    if reply.finished is None:
        return {"answer": "", "error": " ".join(str(reply.error).split())}
    usage, timings = reply.finished.usage, reply.finished.timings
    return {
        "answer": reply.text,
        "reason": reply.finished.reason,
        "new_tokens": usage.new_tokens,
        "seconds": round(timings.total_s, 3),
    }
