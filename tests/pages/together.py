"""Everything that one does with a page, as steps, so that two people can do it at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from omnilmm.archive import read_conversation_file
from omnilmm.engine.local import LocalEngine
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import Sample
from tests.pages.visitor import Pace

MORE = "What is in this picture?"


def picture_tokens(engine: LocalEngine, *samples: Sample) -> str:
    """What the note under an answer says about the pictures of a conversation."""
    views = [view for sample in samples for view in engine.slices(open_picture(sample.picture))]
    return f"{sum(view.tokens for view in views)} picture tokens"


def everything(person: Any, mine: Sample, other: Sample, folder: Path, pace: Pace) -> Iterator[None]:
    """Ask, ask on, regenerate, edit, undo, export, start over, import and reload; between two steps it is others' turn.

    Args:
        person: in front of either page, with a model that is asked about their sample.
        mine: the picture of this one, with a question and the true answer.
        other: that of the other one: nothing of it may ever be seen here.
        folder: for what is saved.
        pace: of the model, which may go as fast as it likes.
    """

    def mind_my_own_business() -> None:
        said = "\n".join([*person.questions(), *person.answers()])
        assert other.question not in said and other.answer not in said

    person.ask(mine.question, mine.picture)
    yield
    assert person.answered() == mine.answer
    person.ask(MORE)
    yield
    person.answered(2)
    expect(person.pictures).to_have_count(1)
    regenerate(person, pace)
    yield
    person.answered(2)
    person.until(lambda: person.questions() == [mine.question, MORE])
    person.press("undo")
    yield
    person.until(lambda: person.questions() == [mine.question] and person.box.input_value() == MORE)
    person.box.fill("")
    person.edit(0, "Which colours do you see?")
    yield
    person.until(lambda: person.questions() == ["Which colours do you see?"] and person.is_idle)
    person.answered()
    expect(person.pictures).to_have_count(1)
    mind_my_own_business()
    said = person.answers()
    person.export(folder / f"{mine.picture.stem}.json")
    assert [one.text for one in read_conversation_file(folder / f"{mine.picture.stem}.json").messages][1::2] == said
    yield
    person.press("clear")
    yield
    person.until(lambda: person.questions() == [] and person.pictures.count() == 0)
    person.load(folder / f"{mine.picture.stem}.json")
    yield
    person.until(lambda: person.answers() == said and person.pictures.count() == 1)
    person.reload()
    yield
    person.until(lambda: person.answers() == said and person.pictures.count() == 1)
    person.ask(mine.question)
    yield
    assert person.answered() == mine.answer  # what was imported has no note
    mind_my_own_business()


def regenerate(person: Any, pace: Pace) -> None:
    """Ask for another answer; the model is held until the page shows that it is at it: both answers look the same."""
    pace.hold()
    person.press("regenerate")
    person.until(lambda: not person.is_idle)
    pace.allow()


def at_once(*people: Iterator[None]) -> None:
    """A step of each in turn, until all are done."""
    going = list(people)
    while going:
        going = [person for person in going if next(person, going) is not going]
