"""On the Gradio page: a model that thinks before it answers, and the fold with its thought."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from omnilmm.engine.options import Sampling
from omnilmm.ui.texts import ENGLISH, texts_in
from tests.pages.looks import serious
from tests.pages.visitor import Site, Visitor, serve
from tests.ui.scripted import ScriptedEngine, Thinking, capable

Visit = Callable[..., Visitor]


@pytest.fixture
def thinking() -> Thinking:
    return Thinking()


@pytest.fixture
def site(thinking: Thinking) -> Iterator[Site]:
    with serve(ScriptedEngine(thinking, capable(thinking=False))) as site:
        yield site


def test_a_thought_is_shown_in_a_fold_and_is_no_part_of_the_answer(
    visit: Visit, site: Site, thinking: Thinking, tmp_path: Path
) -> None:
    visitor = visit(site.address)
    fold, answer = visitor.page.locator("#chat .thought-group"), visitor.page.locator("#chat .bot.message")
    visitor.page.locator("#thinking input").check()
    visitor.ask("What is it?")
    expect(fold).to_contain_text(ENGLISH.thinking_now)
    expect(fold.locator("strong")).to_have_text("red")  # it is open while it grows
    thinking.goes_on.release()
    expect(answer.get_by_text("It is", exact=True)).to_be_visible()
    expect(fold.locator("strong")).to_have_count(0)  # and closed with the answer
    thinking.goes_on.release()
    assert visitor.answered() == Thinking.ANSWER
    options = site.engine.asked[-1][1]
    assert isinstance(options, Sampling) and options.thinking is True
    expect(fold).to_contain_text("Thought for 12 s, 340 tokens")
    visitor.page.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
    copy = visitor.page.locator("#chat .message-buttons-left button:visible")
    expect(copy).to_have_count(1)
    copy.click()
    visitor.until(lambda: visitor.page.evaluate("window.copied") == Thinking.ANSWER)
    fold.locator("[role=button]").click()
    expect(fold).to_contain_text("It is.")
    assert not [found for found in serious(visitor.page) if "thought" in found], serious(visitor.page)
    visitor.export(tmp_path / "talk.json")
    written = json.loads((tmp_path / "talk.json").read_text())["messages"][1]
    assert written["thought"]["text"] == Thinking.THOUGHT and written["thought"]["tokens"] == 340
    assert written["content"] == [{"type": "text", "text": Thinking.ANSWER}]

    visitor.reload()
    expect(fold).to_contain_text("Thought for 12 s, 340 tokens")
    visitor.page.get_by_text("中文", exact=True).click()
    expect(fold).to_contain_text(texts_in("zh").thought_line(Thinking.REPORTED))

    visitor.ask("Again?")
    expect(fold.nth(1).locator("strong")).to_be_visible()
    visitor.stop.click()
    visitor.until(lambda: len(visitor.notes()) == 2 and visitor.is_idle)
    visitor.until(lambda: visitor.note == texts_in("zh").stopped and visitor.answers() == [Thinking.ANSWER])
    expect(fold.nth(1)).to_contain_text(texts_in("zh").thought_cut)
    expect(visitor.page.locator("#continue-answer")).to_be_hidden()
    assert site.engine.asked[-1][0].messages[1].text == Thinking.ANSWER
