"""What the terminal says while an answer is waited for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from omnilmm.conversation import Conversation, Message, Thought
from omnilmm.engine.events import Event, Preview, Progress, TextDelta, ThoughtDelta
from omnilmm.engine.options import Sampling
from omnilmm.ui import terminal as terminal_module
from omnilmm.ui.terminal import Terminal
from tests.ui.scripted import ScriptedEngine, finished


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def notes_of(notes: io.StringIO) -> str:
    beat = Progress("encoding", total=1)
    script = [Progress("waiting", total=2), Progress("prefill", 4, 10), TextDelta("Yes", 1), beat, finished("Yes.")]
    out = io.StringIO()
    Terminal(ScriptedEngine(lambda _: script), Sampling(), out=out, notes=notes).ask("Is it?")
    assert out.getvalue() == "Yes.\n"
    return notes.getvalue()


def test_on_a_screen_one_line_says_what_is_done_and_goes_with_the_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal_module, "time", SimpleNamespace(monotonic=float))  # seconds are shown from 0 on
    queued, reading, gone, *rest = notes_of(Screen()).split("\r")[1:]
    assert queued == "(queued: 2 ahead of you)"
    assert reading.rstrip() == "(reading the prompt 40% …)" and len(reading) >= len(queued)
    assert gone == " " * len(reading.rstrip())
    assert len(rest) == 1 and rest[0].startswith("(0.50 s to first word")


def test_in_a_file_there_is_no_more_than_who_is_ahead() -> None:
    said = notes_of(io.StringIO())
    assert said.startswith("(2 ahead of you)\n(0.50 s to first word") and "\r" not in said


@pytest.mark.parametrize("is_searched", [False, True])
def test_a_thought_is_dimmed_beside_the_answer(is_searched: bool) -> None:
    thought = Thought("Hm. Well.", 4, 12.0)
    parts = [Preview("", 2, thought)] if is_searched else [ThoughtDelta("Hm.", 2), ThoughtDelta(" Well.", 4)]
    script = [*parts, TextDelta("Yes.", 6), finished("Yes.", thought=thought)]
    for notes, dimmed in ((Screen(), "\033[2mHm. Well.\033[0m\n\n"), (io.StringIO(), "Hm. Well.\n\n")):
        out = io.StringIO()
        events = [event for event in script if not (is_searched and isinstance(event, TextDelta))]
        terminal = Terminal(ScriptedEngine(lambda _, said=events: said), Sampling(), out=out, notes=notes)  # type: ignore[misc]
        assert terminal.ask("Is it?") == script[-1]
        assert out.getvalue() == "Yes.\n"
        assert notes.getvalue().startswith(f"{dimmed}(thought for 12 s, 4 tokens · 0.50 s to first word")
        assert terminal.conversation.messages[-1] == Message("assistant", ("Yes.",), thought)


def test_ctrl_c_in_a_thought_keeps_it() -> None:
    def script(_: Conversation) -> Iterator[Event]:
        yield ThoughtDelta("Hm", 1)
        raise KeyboardInterrupt

    notes = Screen()
    terminal = Terminal(ScriptedEngine(script), Sampling(), out=io.StringIO(), notes=notes)
    assert terminal.ask("Is it?") is None
    assert notes.getvalue() == "\033[2mHm\033[0m\n\n(stopped)\n"
    assert terminal.conversation.messages[-1].thought == Thought("Hm", is_closed=False)
