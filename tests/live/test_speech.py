"""Answers are cut into sentences while they grow, without what is not to be read aloud."""

from __future__ import annotations

import io
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnilmm.live import speech
from omnilmm.live.speech import LONGEST, Sentences, language_of, speakable, synthesised

PIECES = (
    "The circle is red. ",
    "Really? ",
    "圆是红色的。",
    "A list:\n- one\n- two\n",
    "<ref>dog</ref><box>1 2 3 4</box> ",
    "3.5 cm ",
)


def sentences(text: str, step: int = 3) -> list[str]:
    cut, found = Sentences(), []
    for end in range(0, len(text), step):
        found += cut.of(text[:end])
    return [*found, *cut.of(text, is_complete=True)]


def test_each_sentence_comes_as_soon_as_it_is_complete() -> None:
    cut = Sentences()
    assert list(cut.of("The circle is red")) == []
    assert list(cut.of("The circle is red. It is")) == ["The circle is red."]
    assert list(cut.of("The circle is red. It is big.", is_complete=True)) == ["It is big."]
    assert sentences("圆是红色的。它很大！") == ["圆是红色的。", "它很大！"]
    assert sentences("It is 3.5 cm wide.") == ["It is 3.5 cm wide."]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("**Bold** and `code`", "Bold and code"),
        ("See [the page](https://x.y/z).", "See the page."),
        ("<ref>The dog</ref><box>10 20 30 40</box> sleeps.", "The dog sleeps."),
        ("```python\nprint(1)\n```\nDone.", "Done."),
        ("## Title\n- one", "Title one"),
        ("---", ""),
    ],
)
def test_markdown_and_boxes_are_not_read_aloud(text: str, read: str) -> None:
    assert speakable(text) == read


def test_no_coordinate_is_read_while_a_box_grows() -> None:
    assert sentences("The <ref>dog</ref><box>10 20 30 40</box> sleeps. It is brown.", step=1) == [
        "The dog sleeps.",
        "It is brown.",
    ]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(1, 9))
def test_nothing_is_lost_or_said_twice_however_the_answer_grows(text: str, step: int) -> None:
    assert " ".join(sentences(text, step)).split() == " ".join(sentences(text, 10**6)).split()


def test_a_sentence_without_end_is_cut() -> None:
    found = sentences("word " * 500, step=50)
    assert len(found) > 1 and max(map(len, found)) <= LONGEST and " ".join(found) == ("word " * 500).strip()


def test_espeak_speaks_and_nothing_in_a_sentence_is_an_option() -> None:
    sound = synthesised("--version; -w /tmp/x.wav", "en")
    assert sound is not None
    header = io.BytesIO(sound)
    with wave.open(header) as file:
        assert file.getframerate() > 0
    assert len(sound) > 20_000, "the words were spoken"


def test_a_sentence_is_read_in_its_own_language() -> None:
    assert [language_of(text, "zh") for text in ("It is red.", "圆是红色的 (red)。", "3.5")] == ["en", "zh", "zh"]


def test_without_espeak_there_is_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech.shutil, "which", lambda _: None)
    assert synthesised("Hello.", "en") is None
