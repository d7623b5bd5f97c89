"""How the Gradio page looks and is used without a mouse: an accessibility checker, dark colours, Markdown, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from omnilmm.ui.texts import ENGLISH
from tests.pages.looks import LOOKS, RICH, serious
from tests.pages.visitor import SAMPLES, Site, Visitor, serve
from tests.ui.scripted import ScriptedEngine, capable, saying

Visit = Callable[..., Visitor]

CIRCLE, STARS = SAMPLES["circle"], SAMPLES["stars"]


@pytest.fixture(scope="module")
def able() -> Iterator[Site]:
    """The page with a model that can do everything."""
    with serve(ScriptedEngine(saying(RICH), capable())) as site:
        yield site


def brightness(visitor: Visitor, what: str) -> float:
    """Of a colour of the page: 0 is black, 1 is white."""
    colour = visitor.page.locator("body").evaluate(f"body => getComputedStyle(body)['{what}']")
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 765


@pytest.mark.parametrize("look", LOOKS)
def test_an_accessibility_checker_finds_nothing_serious(visit: Visit, able: Site, look: str) -> None:
    visitor = visit(able.address, **LOOKS[look])

    def is_dark() -> bool:
        return brightness(visitor, "background-color") < 0.3 < 0.6 < brightness(visitor, "color")

    def is_light() -> bool:
        return brightness(visitor, "color") < 0.4 < 0.8 < brightness(visitor, "background-color")

    visitor.until(is_dark if "dark" in look else is_light)
    assert serious(visitor.page) == []
    visitor.ask("What is it?", STARS.picture)
    visitor.until(lambda: len(visitor.notes()) == 1)
    for panel in ("seen-panel", "files", "past", "about"):
        visitor.page.locator(f"#{panel} button").first.click()
        expect(visitor.page.locator(f"#{panel} button.open").first).to_be_visible()
    assert serious(visitor.page) == []


def test_code_tables_and_formulas(visit: Visit, able: Site) -> None:
    visitor = visit(able.address)
    visitor.ask("What is it?", STARS.picture)
    assert "star" in visitor.answered()  # of the text, not of the picture that is drawn below it
    answer = visitor.page.locator("#chat .bot.message").first
    expect(answer.locator("table td")).to_have_text(["star", "2"])
    expect(answer.locator("pre code")).to_contain_text("# counts the stars\ndef count(")
    expect(answer.locator(".katex")).to_have_count(2)
    expect(answer.locator(".katex-display")).to_have_count(1)
    expect(answer.locator("mark.chip")).to_have_text("star")
    marked = visitor.page.locator("#chat .bot img.picture")
    expect(marked).to_have_count(1)
    expect(marked).to_have_attribute("alt", ENGLISH.boxes_on_picture)
    plain = visitor.page.locator("#chat .user img.picture").get_attribute("src")
    expect(marked).not_to_have_attribute("src", plain or "")
    expect(answer).to_contain_text("<form action=/login>")  # told, and no more
    forbidden = "#chat :is(form, [style*=fixed], img[src*=logout], a[href^=data], #password)"
    expect(visitor.page.locator(forbidden)).to_have_count(0)


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
    """From the sample to a further question, an edit and a new chat, by Tab, Enter and letters alone."""

    def go_to(selector: str) -> None:
        for _ in range(120):
            if visitor.page.evaluate(f"document.activeElement?.matches({selector!r})"):
                return
            visitor.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}")

    go_to(".sample")
    visitor.page.keyboard.press("Enter")
    visitor.answered()
    go_to("#question textarea")
    visitor.page.keyboard.type("What is in this picture?")
    visitor.page.keyboard.press("Enter")
    visitor.answered(2)
    go_to("#chat .picture")
    visitor.page.keyboard.press("Enter")
    visitor.until(lambda: visitor.page.locator("#full-size").is_visible())
    visitor.page.keyboard.press("Escape")
    visitor.until(lambda: not visitor.page.locator("#full-size").is_visible())
    go_to("#chat .edit")
    visitor.page.keyboard.press("Enter")
    visitor.until(lambda: ENGLISH.editing.split("{")[0] in visitor.page.locator("#notice").inner_text())
    go_to("#clear")
    visitor.page.keyboard.press("Enter")
    visitor.until(lambda: visitor.questions() == [])
