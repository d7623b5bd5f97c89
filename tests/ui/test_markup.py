"""A user's text is shown as it was typed, a picture as the model sees it."""

from __future__ import annotations

import base64
import gc
import html
import io
import json
import re
from weakref import WeakKeyDictionary

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.ui import markup
from omnilmm.ui.draft import Draft
from omnilmm.ui.embedding import FULL_PIXELS, jpeg
from omnilmm.ui.note import Note
from omnilmm.ui.session import Session
from omnilmm.ui.texts import ENGLISH


def test_plain_words_stay_as_they_are() -> None:
    question = "What colour is the circle? It's (maybe) red, isn't it: 3.5 cm!"
    assert markup.plain_markdown(question) == question


def test_nothing_typed_is_markup() -> None:
    typed = "<img src=x> *a* _b_ `c` [d](e) $$f$$ ~~g~~ |h| &amp; \\*"
    shown = markup.plain_markdown(typed)
    assert not set("<>*_`[]$~|\\") & set(shown)
    lines = markup.plain_markdown("# a\n- b\n1. c\n    d\n===").splitlines()
    assert lines == ["&#35; a", "&#45; b", "1&#46; c", "&nbsp;&nbsp;&nbsp;&nbsp;d", "&#61;=="]


def test_a_thumbnail_is_small_and_goes_with_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "_thumbnails", WeakKeyDictionary())  # without pictures of other tests
    picture = Picture(Image.new("RGB", (3000, 20), "red"))
    address = markup.thumbnail(picture)
    small = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert small.size == (markup.THUMBNAIL_PIXELS, 3)
    assert markup.thumbnail(picture) is address
    assert len(markup._thumbnails) == 1
    del picture
    gc.collect()
    assert len(markup._thumbnails) == 0


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


def pictured(bubble: markup.Shown) -> Image.Image:
    """The picture in a bubble."""
    return Image.open(io.BytesIO(base64.b64decode(bubble["content"].partition("base64,")[2].partition('"')[0])))


def test_regions_are_drawn_on_the_newest_of_several_pictures() -> None:
    """Also where a later question came without one; none is drawn where there is no picture at all."""
    red, green, blue = (Picture(Image.new("RGB", (60, 40), colour)) for colour in ("red", "green", "blue"))
    where = "<box>400 400 600 600</box>"
    session = Session()
    session.conversation = Conversation()
    for parts in (("Is it there?",), (red, green, "Here?"), ("And now?",), (blue, "And here?")):
        session.conversation = session.conversation.with_message("user", *parts).with_message("assistant", where)
    session.notes = (None,) * 4
    shown = markup.chat_messages(session)
    marked = [bubble for bubble in shown if bubble["role"] == "assistant" and "<img" in bubble["content"]]
    corners = [pictured(bubble).getpixel((2, 37)) for bubble in marked]
    assert [max(range(3), key=corner.__getitem__) for corner in corners if isinstance(corner, tuple)] == [1, 1, 2]
    alternative = f'alt="{html.escape(ENGLISH.boxes_on_picture)}"'
    assert all(alternative in bubble["content"] for bubble in marked)


def test_a_visitors_own_picture_is_never_changed() -> None:
    """It is shown small, marked and encoded, and the next question is about the whole of it."""
    picture = Picture(Image.effect_noise((5000, 3000), 90).convert("RGB"))
    before = picture.image.tobytes()
    session = Session()
    session.conversation = (
        Conversation().with_message("user", picture, "Where?").with_message("assistant", "<box>0 0 500 500</box>")
    )
    session.notes = (None,)
    assert pictured(markup.chat_messages(session)[-1]).size == (markup.MARKED_PIXELS, 432)
    assert Image.open(io.BytesIO(markup.encoded(picture))).size == (markup.SENT_PIXELS, 876)
    assert Image.open(io.BytesIO(jpeg(picture.image))).size == (FULL_PIXELS, 2458)
    assert picture.image.size == (5000, 3000) and picture.image.tobytes() == before


UNSAFE, ESCAPED = "<img src=x onerror='a()'> & \"b\"", "&lt;img src=x onerror=&#x27;a()&#x27;&gt; &amp; &quot;b&quot;"


def test_nothing_that_is_said_on_the_page_is_markup() -> None:
    """A title comes from a card, a notice repeats the name of an upload, a note what an engine says."""
    header = markup.header_html(UNSAFE, UNSAFE, UNSAFE)
    assert header == f'<h1>{ESCAPED}</h1><p>{ESCAPED}</p><p class="change">{ESCAPED}</p>'
    assert markup.header_html("title", "line") == "<h1>title</h1><p>line</p>"
    assert markup.notice_html(UNSAFE) == f'<p class="notice" role="alert">{ESCAPED}</p>'
    assert markup.notice_html(UNSAFE, stays=True) == f'<p class="notice stays" role="alert">{ESCAPED}</p>'
    assert markup.notice_html("") == ""
    texts = ENGLISH.model_copy(update={"stopped": UNSAFE, "looks_like_photo": UNSAFE, "past": {"title": UNSAFE}})
    session = Session(texts)
    session.conversation = Conversation().with_message("user", "?").with_message("assistant", "yes")
    session.notes = (Note(stopped=True, is_photo=True),)
    shown = [bubble["content"] for bubble in markup.chat_messages(session, offer=UNSAFE)]
    assert shown[1] == (f'<div class="photo-line"><span>{ESCAPED}</span><button class="offer">{ESCAPED}</button></div>')
    assert shown[3] == f'<small class="note">{ESCAPED}</small>'
    (said,) = re.findall('data-texts="([^"]*)"></div>$', markup.past_chats(texts))
    assert json.loads(html.unescape(said)) == {"title": UNSAFE, "language": "en"}


def test_marks_of_a_growing_answer_are_not_drawn_yet() -> None:
    session = marked_talk()
    before = session.conversation.without_last(2)
    draft = Draft(before, Message("user", ("And?",)), "<ref>b</ref><box>0 0 9 9</box><ref>c", None)
    bubbles = markup.chat_messages(session, draft)
    assert bubbles[-1]["content"] == '<mark class="chip chip-0">b</mark>c'


@pytest.mark.parametrize(
    ("answer", "shown"),
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
def test_formulas_between_dollars_and_prices_that_are_none(answer: str, shown: str) -> None:
    assert markup.with_dollars(answer) == shown
