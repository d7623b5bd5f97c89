"""What the terminal says while an answer is waited for."""

from __future__ import annotations

import io

from omnilmm.engine.events import Progress, TextDelta
from omnilmm.engine.options import Sampling
from omnilmm.ui.terminal import Terminal
from tests.ui.scripted import ScriptedEngine, finished


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def told(notes: io.StringIO) -> str:
    beat = Progress("reading", total=1)
    script = [Progress("waiting", total=2), Progress("prefill", 4, 10), TextDelta("Yes", 1), beat, finished("Yes.")]
    out = io.StringIO()
    Terminal(ScriptedEngine(lambda _: script), Sampling(), out=out, notes=notes).ask("Is it?")
    assert out.getvalue() == "Yes.\n"
    return notes.getvalue()


def test_on_a_screen_one_line_says_what_is_done_and_goes_with_the_first_word() -> None:
    queued, reading, gone, *rest = told(Screen()).split("\r")[1:]
    assert queued == "(queued: 2 ahead of you)"
    assert reading.rstrip() == "(reading the prompt 40% …)" and len(reading) >= len(queued)
    assert gone == " " * len(reading.rstrip())
    assert len(rest) == 1 and rest[0].startswith("(0.50 s to first word")


def test_in_a_file_there_is_no_more_than_who_is_ahead() -> None:
    said = told(io.StringIO())
    assert said.startswith("(2 ahead of you)\n(0.50 s to first word") and "\r" not in said
