"""What a visitor does with the whole conversation: start over, take back, edit, export, import."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from PIL import Image

from omnilmm.archive import read_conversation, to_json
from omnilmm.conversation import Conversation, Video
from omnilmm.images.videos import is_video_file
from omnilmm.sentences import Sentence
from omnilmm.ui.gradio_page.page import Page
from omnilmm.ui.samples import samples
from omnilmm.ui.texts import ENGLISH
from tests.ui.gradio_page.tab import Tab, answers_with, boxed, given, notice_of, red, said
from tests.ui.scripted import ScriptedEngine, capable

EMPTY = {"text": "", "files": []}
MORE = {"text": "half a thought", "files": []}


def test_a_new_chat_is_empty_also_for_who_comes_back(page: Page, tab: Tab) -> None:
    tab.ask("one")
    updates = page.conversations.forget(tab.request)
    assert said(page, updates) == [] and updates[page.widgets.shown] == 0
    assert page.visitors.store.get(tab.visitor.key) is None


def test_undo_puts_the_question_with_its_pictures_into_an_empty_box(page: Page, tab: Tab, picture: Path) -> None:
    assert str(Sentence("nothing_to_undo")) in notice_of(page, page.conversations.undo(tab.request, EMPTY))
    tab.ask("one", tab.upload(picture))
    question = boxed(page, page.conversations.undo(tab.request, {"text": " ", "files": []}))
    (path,) = question["files"]
    assert question["text"] == "one" and Image.open(path).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert page.context.uploads.file(tab.visitor.owner, path) == Path(path), "it can be sent again"
    assert tab.texts == [] and page.visitors.store.get(tab.visitor.key) is None
    tab.ask("two")
    assert boxed(page, page.conversations.undo(tab.request, MORE)) is None, "there is something in it"


def test_a_video_comes_back_as_a_file_that_stands_for_its_frames(page: Page, tab: Tab) -> None:
    answers_with(page, ScriptedEngine(card=capable(video=True)))
    video = Video((red(), red()), (0.0, 1.0), 2.0, (6, 4))
    talk = Conversation().with_message("user", red(), video, "What happens?").with_message("assistant", "Nothing.")
    tab.session.load(talk)
    question = boxed(page, page.conversations.undo(tab.request, EMPTY))
    assert [Path(path).name for path in question["files"]] == ["picture-1.png", "video-2.mp4"]
    path = question["files"][1]
    assert is_video_file(path) and page.context.open_upload(tab.visitor, path) is video, "it would be decoded again"


def test_undo_of_a_sample_opens_the_chat_before_it_and_leaves_the_box(page: Page, tab: Tab) -> None:
    tab.ask("mine")
    list(page.answers.ask_sample(samples()[0])(tab.request, 2, "", *tab.settings()))
    updates = page.conversations.undo(tab.request, EMPTY)
    assert tab.texts == ["mine", "mine"] and boxed(page, updates) is None
    assert boxed(page, page.conversations.undo(tab.request, EMPTY)) == {"text": "mine", "files": []}
    list(page.answers.ask_sample(samples()[0])(tab.request, 0, "", *tab.settings()))
    assert boxed(page, page.conversations.undo(tab.request, EMPTY))["text"] == samples()[0].question, (
        "none was before it"
    )


def test_an_earlier_question_comes_into_the_box_and_goes_without_a_trace(page: Page, tab: Tab, picture: Path) -> None:
    tab.ask("one", tab.upload(picture))
    tab.ask("two", shown=2)
    begun = page.conversations.edit(tab.request, 1, MORE)
    assert boxed(page, begun) == {"text": "two", "files": []} and begun[page.widgets.editing] == 2
    assert notice_of(page, begun) == (f'<p class="notice stays" role="alert">{ENGLISH.editing.format(number=2)}</p>')
    assert given(begun, page.widgets.cancel, "visible") is True
    other = page.conversations.edit(tab.request, 0, boxed(page, begun))
    assert boxed(page, other)["text"] == "one" and len(boxed(page, other)["files"]) == 1
    ended = page.conversations.cancel(tab.request)
    assert boxed(page, ended) == MORE, "what was there first"
    assert boxed(page, page.conversations.cancel(tab.request)) == EMPTY, "it came back once"
    assert (ended[page.widgets.editing], ended[page.widgets.notice]) == (-1, "")
    assert given(ended, page.widgets.cancel, "visible") is False
    assert tab.texts == ["one", "one", "two", "two"]
    tab.ask("three", shown=4)
    assert boxed(page, page.conversations.edit(tab.request, 2, EMPTY)) == {"text": "three", "files": []}


@pytest.mark.parametrize("number", [-1, 1, 99])
def test_what_is_no_question_is_not_edited(page: Page, tab: Tab, number: int) -> None:
    tab.ask("one")
    assert page.conversations.edit(tab.request, number, EMPTY) == {page.widgets.editing: -1}


def test_a_conversation_from_a_file_is_gone_on_with_and_the_file_deleted(page: Page, tab: Tab, tmp_path: Path) -> None:
    talk = Conversation(system="Rhyme.").with_message("user", red(), "What?").with_message("assistant", "Red.")
    file = tmp_path / "talk.json"
    file.write_text(to_json(talk))
    path = tab.upload(file)
    updates = page.conversations.load(tab.request, path)
    assert ENGLISH.imported in notice_of(page, updates) and tab.session.conversation == talk
    assert updates[page.widgets.system]["value"] == "Rhyme." and not Path(path).exists() and file.exists()
    saved = page.visitors.store.get(tab.visitor.key)
    assert saved is not None and saved.conversation == talk
    file.write_text(to_json(Conversation().with_message("user", "theirs").with_message("assistant", "x")))
    theirs = Tab(page).upload(file)
    bad = tab.upload(Path(__file__))
    for one in (bad, str(file), theirs):
        refused = page.conversations.load(tab.request, one)
        assert '<p class="notice"' in notice_of(page, refused) and tab.session.conversation == talk
    assert not Path(bad).exists() and file.exists() and Path(theirs).exists(), "of the visitor's own files alone"


def test_a_conversation_is_exported_whole_and_for_reading(page: Page, tab: Tab, picture: Path) -> None:
    tab.ask("What <is> it?", tab.upload(picture))
    file = page.conversations.export_json(tab.request)[page.widgets.file]
    assert file["name"] == "conversation.json" and read_conversation(file["content"]) == tab.session.conversation
    title = page.context.provider.card.title
    assert json.loads(file["content"])["model"] == title
    file = page.conversations.export_markdown(tab.request)[page.widgets.file]
    assert file["name"] == "conversation.md" and "data:image/" in file["content"] and "What" in file["content"]
    assert title in html.unescape(file["content"]).splitlines()[0]
