"""What a page is told of a turn that came to nothing."""

from __future__ import annotations

from omnilmm.engine.events import Progress
from omnilmm.engine.options import Sampling
from omnilmm.ui.answering import Answering
from omnilmm.ui.session import Session
from omnilmm.ui.texts import ENGLISH
from tests.ui.scripted import ScriptedEngine


def stopped_early(*, restores_question: bool) -> Answering:
    session = Session()

    def waits(_: object) -> list[Progress]:
        session.stop()
        return [Progress("waiting", total=1)] * 9

    drafts = session.ask(ScriptedEngine(waits), ("?",), Sampling())
    answering = Answering(session, lambda: drafts, restores_question=restores_question)
    assert answering.done.wait(10)
    return answering


def test_only_a_question_from_the_box_is_said_to_be_back_in_it() -> None:
    assert [stopped_early(restores_question=back).outcome for back in (True, False)] == ["cancelled"] * 2
    assert [stopped_early(restores_question=back).notice for back in (True, False)] == [
        ENGLISH.withdrawn,
        ENGLISH.stopped_early,
    ]
