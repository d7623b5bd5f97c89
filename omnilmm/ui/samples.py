"""The sample pictures of the pages: each with a question and what the built-in model should answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.images.pixels import open_picture

FOLDER = ROOT / "assets" / "samples"


@dataclass(frozen=True)
class Sample:
    """One sample: a picture file, a question about it, and the right answer in the words of the built-in model.

    Question and answer are in English and in Chinese.
    """

    picture: Path
    question: str
    answer: str
    question_zh: str
    answer_zh: str

    def asked_in(self, code: str) -> str:
        """Return the question in a language."""
        return self.question_zh if code == "zh" else self.question


@lru_cache
def samples() -> tuple[Sample, ...]:
    """Return all samples in display order; none if the repository's `assets/` is not available."""
    path = FOLDER / "samples.yaml"
    if not path.is_file():
        return ()
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(Sample(**entry | {"picture": FOLDER / entry["picture"]}) for entry in entries)


@lru_cache
def _picture(sample: Sample) -> Picture:
    return open_picture(sample.picture)


def is_sample(question: Message) -> bool:
    """Return whether a message is the question of a sample about its picture, in any language."""
    return any(
        question.text in (sample.question, sample.question_zh) and question.pictures == (_picture(sample),)
        for sample in samples()
    )


def is_untouched(conversation: Conversation) -> bool:
    """Return whether a conversation has nothing of the visitor's own: it is empty, or one sample with its answer."""
    questions = [message for message in conversation.messages if message.role == "user"]
    return not questions or (len(questions) == 1 and is_sample(questions[0]))
