"""Sending to the Streamlit page and waiting for its answers: where it is scrolled to, files, Stop, and the keyboard."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Route, expect
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Progress, TextDelta
from omnilmm.ui.status import status
from omnilmm.ui.streamlit_page import page
from omnilmm.ui.texts import CODES, ENGLISH, texts_in
from tests.pages.visitor import SAMPLES
from tests.streamlit_pages.person import Person, Site
from tests.ui.scripted import ScriptedEngine, capable, finished
from tests.waiting import HOLD_S, PATIENCE_S

Visit = Callable[..., Person]

STARS, HEART = SAMPLES["stars"], SAMPLES["heart"]
LONG = "\n\n".join(f"Paragraph {number}: {'words ' * 30}" for number in range(12))
MARKED = "- [x] done\n- [ ] to do\n\n| name | count |\n|:---|---:|\n| star | 2 |"


class Tap:
    """Says a part of an answer for each time that it is opened, and then the whole."""

    def __init__(self, *parts: str) -> None:
        self.parts, self.opened = parts, threading.Semaphore(0)

    def __call__(self, _: Conversation) -> Iterable[Event]:
        for part in ("", *self.parts):
            if part:
                yield TextDelta(part, 10)
            while not self.opened.acquire(timeout=0.1):  # an engine is never silent for long
                yield TextDelta("", 20) if part else Progress("prefill", 40, 100)
        yield finished("".join(self.parts))

    def open(self, times: int = 1) -> None:
        self.opened.release(times)


@pytest.fixture
def able(server: Site) -> ScriptedEngine:
    """The page with a model that can do everything."""
    engine = ScriptedEngine(card=capable())
    server.use(engine)
    return engine


def is_at_end(person: Person) -> bool:
    return person.scrolled[1] < 80


def test_it_opens_at_its_top_and_in_the_language_of_the_browser(visit: Visit, able: ScriptedEngine) -> None:
    for _ in range(4):
        person = visit(viewport={"width": 1280, "height": 500})
        person.wait_until_stable()
        person.page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollHeight > 500 + 100")
        person.page.wait_for_timeout(300)
        assert person.scrolled[0] == 0, "it does not open at its top"
    chinese = texts_in("zh")
    person = visit(locale="zh-CN")
    expect(person.page.locator("html")).to_have_attribute("lang", "zh")
    expect(person.page.locator(".st-key-language input[value='1']")).to_be_checked()
    person.sample("stars", "zh")
    person.until(lambda: person.questions() == [STARS.asked_in("zh")])
    person.until(lambda: chinese.first_word.format(seconds="0.5 s") in person.note)
    assert able.asked[-1][0].messages[0].text == STARS.asked_in("zh")


@pytest.mark.parametrize(
    "looks", [{}, {"viewport": {"width": 390, "height": 844}, "is_mobile": True}], ids=["", "phone"]
)
def test_a_new_turn_comes_into_view_and_a_reader_is_left_in_peace(
    visit: Visit, able: ScriptedEngine, looks: dict[str, object]
) -> None:
    able.script = lambda _: [TextDelta(LONG), finished(LONG)]
    person = visit(**looks)
    person.ask("The first question", STARS.picture)
    person.answered()
    person.until(lambda: is_at_end(person))
    expect(person.newest).to_be_hidden()

    above, _ = person.scrolled
    main = person.page.locator("[data-testid=stMain]")
    main.evaluate("main => main.scrollTop = 0")  # reads older text
    expect(person.newest).to_be_visible()
    tap = able.script = Tap("The answer begins.\n\n", LONG, "\n\nThe end.")
    person.ask("The second question")
    expect(person.message(2)).to_be_in_viewport()
    expect(person.button("stop")).to_be_in_viewport()
    person.until(lambda: re.fullmatch(r"reading the prompt 40% … · \d+ s", person.note) is not None)  # it counts
    tap.open()
    expect(person.message(3)).to_contain_text("The answer begins.")
    person.until(lambda: re.fullmatch(r"20 tokens · [\d.]+ tokens/s", person.note) is not None)

    main.evaluate("(main, above) => main.scrollTop = above / 2", above)  # reads on while it is answered
    person.until(lambda: person.newest.is_visible())
    place = person.scrolled[0]
    tap.open()
    expect(person.message(3)).to_contain_text("Paragraph 11")
    expect(person.button("stop")).to_be_in_viewport()
    assert person.scrolled[0] == pytest.approx(place, abs=2), "it jumped while somebody read"
    tap.open(2)
    person.answered(2)
    assert person.scrolled[0] == pytest.approx(place, abs=2), "it jumped when the answer had ended"
    person.newest.click()
    person.until(lambda: is_at_end(person))
    expect(person.newest).to_be_hidden()


def test_stop_is_within_reach_of_a_long_answer(visit: Visit, able: ScriptedEngine) -> None:
    tap = able.script = Tap(LONG, LONG)
    tap.open()
    person = visit(viewport={"width": 390, "height": 844}, is_mobile=True)
    person.ask("Tell me more")
    expect(person.message(1)).to_contain_text("Paragraph 11")
    person.page.locator("[data-testid=stMain]").evaluate("main => main.scrollTop = 0")
    person.button("stop").click()
    expect(person.button("stop")).to_have_count(0)
    person.until(lambda: person.note == ENGLISH.stopped)
    tap.open(9)


def test_files_from_anywhere_are_looked_at_when_they_are_attached(
    visit: Visit, able: ScriptedEngine, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.png"
    notes.write_text("these are notes, not a picture")
    person = visit()
    person.drop(STARS.picture, over=person.page.locator(".st-key-header"))
    expect(person.attached).to_have_count(1)
    person.drop(notes, over=person.page.locator("[data-testid=stSidebar]"))
    expect(person.notice).to_contain_text("notes.png: This file is not a picture")
    expect(person.attached).to_have_count(1)
    person.page.locator("body").evaluate(  # pasted while no field has the focus
        """(body, bytes) => {
            document.activeElement.blur()
            const data = new DataTransfer()
            data.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }))
            body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }))
        }""",
        list(HEART.picture.read_bytes()),
    )
    expect(person.attached).to_have_count(2)
    expect(person.notice).to_have_count(0)  # a notice goes when its cause goes
    assert able.asked == []
    person.ask("What are these?")
    person.answered()
    assert len(able.asked[-1][0].pictures) == 2

    seed = person.page.get_by_role("textbox", name=ENGLISH.labels["seed"])
    seed.fill("seven")
    seed.press("Tab")
    person.ask("And now?")
    expect(person.notice).to_contain_text("seed")
    expect(person.box).to_have_value("And now?")
    seed.fill("7")
    seed.press("Tab")
    expect(person.notice).to_have_count(0)


def test_enter_during_an_upload_sends_when_it_is_there(visit: Visit, able: ScriptedEngine, tmp_path: Path) -> None:
    noise, path = Image.effect_noise((64, 64), 200), tmp_path / "noise.png"
    noise.save(path)
    notes = tmp_path / "notes.png"
    notes.write_text("these are notes, not a picture")
    person = visit()
    uploads: list[Route] = []
    person.page.route("**/_stcore/upload_file/**", lambda route: uploads.append(route))
    files = person.page.locator("[data-testid=stChatInput] input[type=file]").first

    def ask_during(upload: Path, question: str) -> None:
        files.set_input_files(str(upload))
        person.until(lambda: len(uploads) == 1)
        person.box.fill(question)
        person.box.press("Enter")
        person.page.wait_for_timeout(500)
        expect(person.box).to_have_value(question)
        uploads.pop().continue_()

    ask_during(path, "What is it?")
    person.answered()
    assert [len(message.pictures) for message in able.asked[-1][0].messages] == [1]
    ask_during(notes, "And this?")
    expect(person.notice).to_contain_text("notes.png")
    person.page.wait_for_timeout(500)
    expect(person.box).to_have_value("And this?")  # without its picture it is another question
    assert len(able.asked) == 1


def test_the_keyboard_of_chinese_and_half_a_character(visit: Visit, able: ScriptedEngine) -> None:
    person = visit()
    able.script = lambda _: [TextDelta(MARKED), finished(MARKED)]
    person.box.fill("ni hao")
    for composing, code in ((True, 13), (False, 229)):  # Chromium's order, and Safari's
        person.box.evaluate(
            """(box, [isComposing, keyCode]) => {
                box.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }))
                if (!isComposing) box.dispatchEvent(new CompositionEvent("compositionend", { bubbles: true }))
                const key = { key: "Enter", bubbles: true, cancelable: true, isComposing, keyCode }
                box.dispatchEvent(new KeyboardEvent("keydown", key))
            }""",
            [composing, code],
        )
    person.page.wait_for_timeout(500)
    expect(person.box).to_have_value("ni hao")
    assert able.asked == []
    person.box.evaluate(
        """box => {
            const { set } = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value")
            set.call(box, "a half \\ud83d one")
            box.dispatchEvent(new InputEvent("input", { bubbles: true }))
        }"""
    )
    person.box.press("Enter")
    person.answered()
    assert able.asked[-1][0].messages[0].text == "a half \ufffd one"
    answer = person.message(1)
    expect(answer.locator("td").last).to_have_css("text-align", "right")
    ticks = answer.locator("input[type=checkbox]")
    expect(ticks).to_have_count(2)
    ticked, empty = ticks.first, ticks.last
    expect(ticked).to_be_checked()
    expect(empty).to_have_css("appearance", "none")  # not the browser's grey on grey
    tick, text = "box => getComputedStyle(box, '::after').borderBottomColor", "item => getComputedStyle(item).color"
    person.until(lambda: ticked.evaluate(tick) == answer.locator("li").first.evaluate(text))


@pytest.mark.parametrize("is_timer", [True, False])
def test_a_fragment_discards_nothing_that_a_click_has_drawn(person: Person, is_timer: bool) -> None:
    """The server is busy until a click's run has ended, and hears of a fragment's run before it sends anything."""
    one = only_session(person)
    one.session_state["visitor"].notice = "drawn by a click"
    done = threading.Event()
    one._event_loop.call_soon_threadsafe(click_and_fragment, one, is_timer, done)
    assert done.wait(PATIENCE_S)
    expect(person.notice).to_contain_text("drawn by a click")


def test_a_choice_during_a_fragments_run_draws_the_page_in_its_place(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the fragment stands: the run of the choice is the next one of the same thread."""
    one, is_running, goes_on = only_session(person), threading.Event(), threading.Event()

    def held(*arguments: Any) -> tuple[str, str]:
        is_running.set()
        assert goes_on.wait(HOLD_S)
        return status(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(page, "status", held)
        assert is_running.wait(PATIENCE_S)  # by the timer of the line about the model
        person.page.get_by_text(texts_in("zh").language, exact=True).click()
        person.until(lambda: one._scriptrunner._requests._state is ScriptRequestType.RERUN)
        goes_on.set()
    expect(person.page.get_by_text(texts_in("zh").settings, exact=True)).to_be_visible()
    expect(person.page.locator(".st-key-header")).to_have_count(1)


def test_a_timer_undoes_nothing_that_was_chosen_meanwhile(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer's message and a choice that was made after it arrive together, right after a run has ended."""
    one = only_session(person)
    done = threading.Event()
    monkeypatch.setattr(one, "handle_backmsg", lambda _: None)  # the browser knows nothing of the choice, and undoes it
    one._event_loop.call_soon_threadsafe(timer_and_choice, one, done)
    assert done.wait(PATIENCE_S)
    expect(person.page.get_by_text(texts_in("zh").settings, exact=True)).to_be_visible()
    for _ in range(2):  # the run of the choice, and that of the timer
        person.page.wait_for_timeout(200)
        person.until(lambda: one._scriptrunner is None)
    assert one.session_state["language"] == "zh"


def only_session(person: Person) -> Any:
    """Of this person, once the server has noticed that those of earlier tests have left."""
    sessions = Runtime.instance()._session_mgr
    person.until(lambda: sessions.num_active_sessions() == 1)
    return sessions.list_active_sessions()[0].session


def timer_and_choice(session: Any, done: threading.Event) -> None:
    session.request_rerun(ClientState())
    session._scriptrunner._script_thread.join(60)
    timer = next(iter(session._fragment_storage._fragments))
    before, after = (with_language(session, code) for code in ("en", "zh"))
    session.request_rerun(ClientState(fragment_id=timer, is_auto_rerun=True, widget_states=before))
    session.request_rerun(ClientState(widget_states=after))
    done.set()


def with_language(session: Any, code: str) -> WidgetStates:
    """What the browser sends with the radio button of the language at `code`."""
    state = session._session_state
    widget = state._key_id_mapper.get_id_from_key("language")
    kind = state._new_widget_state.widget_metadata[widget].value_type
    value = CODES.index(code) if kind == "int_value" else texts_in(code).language
    return WidgetStates(widgets=[WidgetState(id=widget, **{kind: value})])


def click_and_fragment(session: Any, is_timer: bool, done: threading.Event) -> None:
    session.request_rerun(ClientState())
    run = session._scriptrunner._script_thread
    run.join(60)
    fragment = next(iter(session._fragment_storage._fragments))
    session.request_rerun(ClientState(fragment_id=fragment, is_auto_rerun=is_timer))
    done.set()
