"""Ask one question, or one for each row, about many pictures: `chat.py --batch`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from omnilmm.batch.answering import AT_ONCE, Prepare, Reply, answer_all
from omnilmm.batch.listing import VIDEOS, Entry
from omnilmm.batch.rows import RowFile, storable
from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture, Video
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Options
from omnilmm.images.pixels import open_picture
from omnilmm.images.videos import open_video

COLUMNS = ("picture", "question", "answer", "error", "model", "options", "reason", "new_tokens", "seconds")
KEY = ("picture", "question")
Preset = Literal["ocr", "caption"]
PRESETS: dict[Preset, str] = {
    "ocr": "Write down all the text in this picture exactly as it is printed, line by line, and nothing else.",
    "caption": "Describe this picture in one or two sentences.",
}


def preset(card: ModelCard, name: Preset) -> str:
    """Return the question of a preset, in the words that the model knows best."""
    return card.presets.get(name, PRESETS[name])


@dataclass
class Batch:
    """A batch of questions.

    Args:
        engine: answers them.
        entries: the questions.
        options: for every answer.
        out: the file for the rows, `.jsonl` or `.csv`, which is resumed if it exists; None to print JSON lines.
        system: system prompt, for a model that has one.
        at_once: number of questions answered concurrently.
        stdout, stderr: for the rows without a file, and for the progress.
        loading: how the model was loaded, which the rows of a file share.
    """

    engine: Engine
    entries: Sequence[Entry]
    options: Options
    out: Path | None = None
    system: str | None = None
    at_once: int = AT_ONCE
    stdout: TextIO | None = None
    stderr: TextIO | None = None
    loading: str = "dtype auto"

    def run(self) -> int:
        """Answer all questions that have no answer yet.

        Returns:
            The number of questions that could not be answered.
        """
        with ExitStack() as stack:
            file = None
            if self.out:
                same = {"model": self.engine.card.name, "options": self._described()}
                file = stack.enter_context(RowFile(self.out, COLUMNS, KEY, same))
            keys = [(entry.picture, entry.question) for entry in self.entries]
            missing = file.missing(keys) if file else range(len(keys))
            failed = self._answer([self.entries[number] for number in missing], file, len(keys) - len(missing))
            if file:
                file.sort(keys)
        return failed

    def _described(self) -> str:
        """Return all that the answers depend on beside model and question; the system prompt as its hash."""
        parts = [describe(self.options), self.loading]
        if self.system:
            parts.append(f"system prompt {hashlib.sha256(self.system.encode()).hexdigest()[:8]}")
        return "; ".join(parts)

    def _answer(self, entries: Sequence[Entry], file: RowFile | None, done: int) -> int:
        failed = 0
        questions: Iterator[Prepare] = (partial(self._prepare, entry) for entry in entries)
        with Bar(len(entries) + done, done, self.stderr) as bar, closing(self._replies(questions)) as replies:
            for entry, reply in zip(entries, replies, strict=True):
                row = {"picture": entry.picture, "question": entry.question} | _row(reply)
                failed += "error" in row
                if file:
                    file.append(row)
                else:
                    row = {name: storable(value) for name, value in row.items()}
                    print(json.dumps(row, ensure_ascii=False), file=self.stdout or sys.stdout, flush=True)
                bar.advance(failed)
        return failed

    def _replies(self, questions: Iterator[Prepare]) -> Any:
        return answer_all(self.engine, questions, self.at_once)

    def _prepare(self, entry: Entry) -> tuple[Conversation, Options]:
        conversation = Conversation(system=self.system)
        return conversation.with_message("user", shown(entry.path, self.engine.card), entry.question), self.options


def shown(path: Path, card: ModelCard) -> Picture | Video:
    """Open a picture, or a video by its suffix.

    Raises:
        ImageError: It cannot be read.
        InputError: It is a video, and the model takes none.
    """
    return open_video(path, card.require_video()) if path.suffix.lower() in VIDEOS else open_picture(path)


def describe(options: Options) -> str:
    """Return the options in one line, to compare runs."""
    named = {name: value for name, value in vars(options).items() if value is not None and value != ()}
    return ", ".join([type(options).__name__, *(f"{name}={value}" for name, value in named.items())])


def _row(reply: Reply) -> dict[str, Any]:
    if reply.finished is None:
        return {"answer": "", "error": " ".join(str(reply.error).split())}
    usage, timings = reply.finished.usage, reply.finished.timings
    counts = {"new_tokens": usage.new_tokens, "seconds": round(timings.total_s, 3)}
    return {"answer": reply.text, "reason": reply.finished.reason} | counts


class Bar:
    """A progress bar on stderr with the time left.

    Args:
        total: number of questions.
        done: number of those that had been answered before.
        file: where it is written; stderr by default.
    """

    def __init__(self, total: int, done: int = 0, file: TextIO | None = None) -> None:
        from tqdm import tqdm  # the hub's is off once a model is loaded

        file = file or sys.stderr
        interval = 0.2 if file.isatty() else 30.0  # a log needs no line for each
        self._bar = tqdm(total=total, initial=done, unit="question", file=file, mininterval=interval, miniters=1)

    def advance(self, failed: int = 0) -> None:
        """Count one more, and show how many failed so far."""
        if failed:
            self._bar.set_postfix_str(f"{failed} failed", refresh=False)
        self._bar.update(1)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
