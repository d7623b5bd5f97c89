"""What one does with past chats, the same on both pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from omnilmm.ui.samples import Sample
from omnilmm.ui.texts import ENGLISH
from tests.pages.looks import serious

SAID = ENGLISH.past
UNSAFE = "<img src=x onerror=\"document.title='hacked'\">"
STORED = "omnilmmHistory.list().then(chats => chats.map(chat => [chat.title, chat.content.messages.length]))"
ON_DISK = "indexedDB.databases().then(all => all.map(one => one.name))"


def keep_open_and_delete(
    person: Any, stranger: Any, restart: Callable[[Any], None], circle: Sample, stars: Sample
) -> None:
    """Two chats; a reload with the server started anew; back to the first, rename, undo, delete, switch off.

    Args:
        person: in front of either page.
        stranger: with another browser.
        restart: makes the server forget a person.
        circle: the first picture, with a question and the true answer.
        stars: the second one.
    """
    page = person.page
    person.ask(circle.question, circle.picture)
    person.answered()
    person.unfold_past()
    switch = page.locator(".past-switch input")
    expect(switch).not_to_be_checked()
    assert page.evaluate(ON_DISK) == [], "nothing is kept unless somebody wants it"
    switch.check()
    person.until(lambda: titles(person) == [circle.question])  # what is on the page already, too
    person.press("clear")
    person.until(lambda: person.questions() == [])
    person.ask(stars.question, stars.picture)
    person.answered()
    person.until(lambda: titles(person) == [stars.question, circle.question])
    expect(page.locator(".past-list img")).to_have_count(2)
    page.mouse.move(1, 1)  # the button under it has the colour of hovering
    person.wait_until_stable()
    found = serious(page)
    assert found == [], found

    restart(person)
    person.reload()
    person.until(lambda: person.answers() == [stars.answer] and person.pictures.count() == 1)
    person.until(lambda: (asked := person.questions()) and ENGLISH.picture_lost not in asked[0])
    person.unfold_past()
    person.until(lambda: titles(person) == [stars.question, circle.question])

    page.get_by_role("button", name=SAID["open"].format(title=circle.question)).press("Enter")
    person.until(lambda: person.answers() == [circle.answer] and person.pictures.count() == 1)
    person.ask(circle.question)
    assert person.answered() == circle.answer, "the picture is there to be asked about"
    person.until(lambda: page.evaluate(STORED) == [[circle.question, 4], [stars.question, 2]])
    person.press("undo")
    person.until(lambda: page.evaluate(STORED) == [[circle.question, 2], [stars.question, 2]])

    # By the keyboard: the list is drawn anew after it was stored, where the focus stays and a click would be lost.
    page.get_by_role("button", name=SAID["rename_one"].format(title=circle.question)).press("Enter")
    page.locator(".past-list input").fill(UNSAFE)
    page.locator(".past-list input").press("Enter")
    person.until(lambda: titles(person) == [UNSAFE, stars.question])
    assert page.title() != "hacked"
    _another_has_nothing(stranger)

    page.get_by_role("button", name=SAID["delete_one"].format(title=stars.question)).click()
    expect(page.locator(".past-question p")).to_have_text(SAID["ask_one"].format(title=stars.question))
    page.locator(".past-question button").first.click()
    person.until(lambda: titles(person) == [UNSAFE])
    switch.uncheck()
    person.until(lambda: page.locator(".past-question p").all_inner_texts() == [SAID["ask_off"].format(count=1)])
    page.locator(".past-question button").first.click()
    person.until(lambda: titles(person) == [] and page.evaluate(STORED) == [])
    person.press("undo")  # off: nothing that happens on the page is kept any more
    person.until(lambda: person.questions() == [])
    assert page.evaluate(STORED) == []


def _another_has_nothing(stranger: Any) -> None:
    stranger.unfold_past()
    stranger.page.locator(".past-switch input").check()
    stranger.until(lambda: stranger.page.get_by_text(SAID["none"]).is_visible())
    assert titles(stranger) == []


def titles(person: Any) -> list[str]:
    """Of the past chats, newest first."""
    return list(person.page.locator(".past-title").all_inner_texts())
