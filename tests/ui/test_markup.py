"""A user's text is shown as it was typed, a picture as the model sees it."""

from __future__ import annotations

import base64
import gc
import io

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.ui import markup
from omnilmm.ui.note import Note
from omnilmm.ui.session import Draft, Session


def test_plain_words_stay_as_they_are() -> None:
    question = "What colour is the circle? It's (maybe) red, isn't it: 3.5 cm!"
    assert markup.plain_markdown(question) == question


def test_nothing_typed_is_markup() -> None:
    typed = "<img src=x> *a* _b_ `c` [d](e) $$f$$ ~~g~~ |h| &amp; \\*"
    shown = markup.plain_markdown(typed)
    assert not set("<>*_`[]$~|\\") & set(shown)
    lines = markup.plain_markdown("# a\n- b\n1. c\n    d\n===").splitlines()
    assert lines == ["&#35; a", "&#45; b", "1&#46; c", "&nbsp;&nbsp;&nbsp;&nbsp;d", "&#61;=="]


def test_a_thumbnail_is_small_and_goes_with_its_picture() -> None:
    picture = Picture(Image.new("RGB", (3000, 20), "red"))
    address = markup.thumbnail(picture)
    small = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert small.size == (markup.THUMBNAIL_PIXELS, 3)
    assert markup.thumbnail(picture) is address
    kept = len(markup._thumbnails)
    del picture
    gc.collect()
    assert len(markup._thumbnails) == kept - 1


def test_a_growing_answer_follows_its_history() -> None:
    session = Session()
    picture = Picture(Image.new("RGB", (4, 4)))
    session.conversation = (
        Conversation()
        .with_message("user", picture, "one <b>")
        .with_message("assistant", "**1**")
        .with_message("user", "old")
        .with_message("assistant", "gone")
    )
    session.notes = (Note(stopped=True), Note())
    draft = Draft(session.conversation.without_last(2), Message("user", ("new",)), "2", None)
    bubbles = markup.chat_messages(session, draft)
    assert [bubble["role"] for bubble in bubbles] == ["user", "user", "assistant", "assistant", "user", "assistant"]
    contents = [bubble["content"] for bubble in bubbles]
    assert contents[0].startswith('<img class="picture" src="data:image/jpeg;base64,')
    assert contents[1:] == ["one &#60;b&#62;", "**1**", '<small class="note">stopped</small>', "new", "2"]


def test_above_an_answer_about_a_photo_stands_that_the_model_knows_drawings_only() -> None:
    session = Session()
    session.conversation = Conversation().with_message("user", "one").with_message("assistant", "1")
    session.notes = (Note(is_photo=True),)
    draft = Draft(session.conversation, Message("user", ("two",)), "2", None, is_photo=True)
    contents = [bubble["content"] for bubble in markup.chat_messages(session, draft, "Use <b> instead")]
    assert contents[1] == contents[-2] and contents[2] == "1" and contents[-1] == "2"
    assert session.texts.looks_like_photo in contents[1]
    assert '<button class="offer">Use &lt;b&gt; instead</button>' in contents[1]
    assert "button" not in markup.chat_messages(session)[1]["content"], "where nothing can be offered"


def marked_talk() -> Session:
    session = Session()
    session.conversation = (
        Conversation()
        .with_message("user", Picture(Image.new("RGB", (40, 30), "white")), "Where?")
        .with_message("assistant", "<ref>a <b></ref><box>0 0 500 500</box> and more")
        .with_message("user", "Thanks")
        .with_message("assistant", "No box.")
    )
    session.notes = (None, Note(stopped=True))
    return session


def test_what_an_answer_marks_is_a_chip_in_the_text_and_drawn_on_the_picture() -> None:
    session = marked_talk()
    contents = [bubble["content"] for bubble in markup.chat_messages(session)]
    assert contents[2] == '<mark class="chip chip-0">a &lt;b&gt;</mark> and more'
    drawn = Image.open(io.BytesIO(base64.b64decode(contents[3].partition("base64,")[2].partition('"')[0])))
    assert drawn.size == (40, 30) and min(drawn.convert("L").tobytes()) < 150
    assert contents[4:] == ["Thanks", "No box.", '<small class="note">stopped</small>']


def test_marks_of_a_growing_answer_are_not_drawn_yet() -> None:
    session = marked_talk()
    before = session.conversation.without_last(2)
    draft = Draft(before, Message("user", ("And?",)), "<ref>b</ref><box>0 0 9 9</box><ref>c", None)
    bubbles = markup.chat_messages(session, draft)
    assert bubbles[-1]["content"] == '<mark class="chip chip-0">b</mark>c'


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("no formula", "no formula"),
        (r"\(x^2\) and \( y \)", "$x^2$ and $y$"),
        (r"\[a\]", "\n\n$$\na\n$$\n\n"),
        ("so $$a$$ it is", "so \n\n$$\na\n$$\n\n it is"),
        ("from $5 to $6", r"from \$5 to \$6"),
        ("`$5` and `\\(x\\)`", "`$5` and `\\(x\\)`"),
        ("```\n$5\n```", "```\n$5\n```"),
        ("```\n$5", "```\n$5"),
        (r"already \$5", r"already \$5"),
    ],
)
def test_formulas_between_dollars_and_prices_that_are_none(answer: str, told: str) -> None:
    assert markup.with_dollars(answer) == told
