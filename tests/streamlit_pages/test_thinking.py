"""On the Streamlit page: a model that thinks before it answers, and the fold with its thought."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from omnilmm.engine.options import Sampling
from omnilmm.ui.texts import ENGLISH
from tests.pages.looks import serious
from tests.streamlit_pages.person import Person, Site
from tests.ui.scripted import ScriptedEngine, Thinking, capable


def test_a_thought_is_shown_in_a_fold_and_is_no_part_of_the_answer(
    server: Site, visit: Callable[..., Person], tmp_path: Path
) -> None:
    thinking = Thinking()
    engine = ScriptedEngine(thinking, capable(thinking=False))
    server.use(engine)
    person = visit(permissions=["clipboard-read", "clipboard-write"])
    fold = person.page.locator("[data-testid=stExpander]")
    first, second = (person.message(number).locator(fold) for number in (1, 3))
    person.page.get_by_text(ENGLISH.thinking_switch, exact=True).click()
    person.ask("What is it?")
    expect(first).to_contain_text(ENGLISH.thinking_now)
    expect(first.locator("strong")).to_be_visible()  # it is open while it grows
    thinking.goes_on.release()
    expect(person.message(1).get_by_text("It is", exact=True)).to_be_visible()
    expect(first.locator("strong")).to_be_hidden()  # and closed with the answer
    thinking.goes_on.release()
    assert person.answered().endswith(Thinking.ANSWER)
    options = engine.asked[-1][1]
    assert isinstance(options, Sampling) and options.thinking is True
    expect(first).to_contain_text("Thought for 12 s, 340 tokens")
    expect(first.locator("strong")).to_be_hidden()
    person.message(1).get_by_role("button", name=ENGLISH.copy_answer).click()
    person.until(lambda: person.page.evaluate("navigator.clipboard.readText()") == Thinking.ANSWER)
    first.locator("summary").press("Enter")
    expect(first.get_by_text("It is.", exact=True)).to_be_visible()
    assert serious(person.page) == []
    person.export(tmp_path / "talk.json")
    written = json.loads((tmp_path / "talk.json").read_text())["messages"][1]
    assert written["thought"]["text"] == Thinking.THOUGHT and written["thought"]["tokens"] == 340
    assert written["content"] == [{"type": "text", "text": Thinking.ANSWER}]

    person.wait_until_stable()
    person.reload()
    expect(first).to_contain_text("Thought for 12 s, 340 tokens")
    person.ask("Again?")
    expect(second.locator("strong")).to_be_visible()
    person.button("stop").click()
    person.until(lambda: len(person.notes()) == 2 and person.is_idle)
    person.until(lambda: person.note == ENGLISH.stopped)
    expect(second).to_contain_text(ENGLISH.thought_cut)
    expect(person.button("continue-answer")).to_have_count(0)
    assert engine.asked[-1][0].messages[1].text == Thinking.ANSWER
