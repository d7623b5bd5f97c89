"""Live views belong to the visitor who opened them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import web_demo
from omnilmm.engine.provider import ModelProvider
from omnilmm.live import detection
from omnilmm.live.talk import Parts, Talk
from omnilmm.ui.gradio_page.live import MOST_PER_VISITOR, Live
from tests.live.sounds import grammar
from tests.ui.scripted import ScriptedEngine
from tests.waiting import wait_until


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


# --- what is missing is one line, and the view works with the rest ----------------------------------------------------


def started(*flags: str) -> Parts:
    """The parts of a page with a live view, once speech recognition is there or has failed."""
    given = web_demo.parser().parse_args(["--live", "--offline", *flags])
    parts: Parts = web_demo.live_parts(given, ModelProvider.holding(ScriptedEngine()))
    wait_until(lambda: not parts.is_loading)
    return parts


def test_without_a_recogniser_questions_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    parts = started("--speech-model", "/no/such/folder")
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "/no/such/folder" in told and "Questions in the live view are typed." in told
    talk = Talk(parts, lambda _: None)
    assert not talk.abilities["hears"]
    talk.close()


def test_without_a_voice_detector_there_is_push_to_talk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for module in (web_demo, detection):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    parts, told = started("--speech-model", f"pocketsphinx:{grammar(tmp_path)}"), []
    wait_until(lambda: told.extend(capsys.readouterr().out.splitlines()) or len(told) == 2)
    assert "pip install silero-vad" in told[1]
    talk = Talk(parts, lambda _: None)
    assert talk.abilities["hears"] and not talk.abilities["hands_free"]
    talk.close()
