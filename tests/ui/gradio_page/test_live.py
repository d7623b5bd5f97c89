"""Live views belong to the visitor who opened them."""

from __future__ import annotations

from typing import Any

from omnilmm.live.talk import Parts, Talk
from omnilmm.ui.gradio_page.live import MOST_PER_VISITOR, Live


def test_a_live_view_is_its_owners_alone_whoever_knows_its_name() -> None:
    nothing: Any = None
    parts = Parts(None, lambda: None, "none")
    live, talk = Live(nothing, nothing, parts), Talk(parts, lambda _: None)
    live._talks["name"] = "ann", talk
    assert live.talk_of("name", "ann") is talk
    assert (
        live.talk_of("name", "ben") is None and live.talk_of("another", "ann") is None and live.talk_of("", "") is None
    )
    talk.close()


def test_places_are_taken_before_anything_is_opened() -> None:
    nothing: Any = None
    live = Live(nothing, nothing, Parts(None, lambda: None, "none"))
    taken = [live._reserve(str(number), "ann") for number in range(MOST_PER_VISITOR + 1)]
    assert taken == [True] * MOST_PER_VISITOR + [False]
    assert live._reserve("of another", "ben") and live.count == MOST_PER_VISITOR + 1
