"""The journeys of a person in front of the Gradio page."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.blocks import BlockFunction
from PIL import ExifTags, Image
from playwright.sync_api import Locator, expect

from built_in.language import CODES, Code
from omnilmm.archive import read_conversation_file
from omnilmm.catalog import BUILT_IN
from omnilmm.engine.events import TextDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.evaluation.metrics.boxes import is_right
from omnilmm.sentences import Sentence
from omnilmm.ui.controls import mode_controls
from omnilmm.ui.session_store import SessionStore
from omnilmm.ui.texts import ENGLISH, texts_for
from tests.engine.gate import Gate, provider_of
from tests.pages.together import at_once, everything, picture_tokens, regenerate
from tests.pages.visitor import ANSWERED, SAMPLES, Pace, Site, Visitor, serve, wait_until_free
from tests.ui.scripted import ScriptedEngine, finished
from tests.waiting import PATIENCE_S

Visit = Callable[..., Visitor]

CIRCLE, STARS, HEART, PICTURE = "circle", "stars", "heart", "picture"


@pytest.fixture
def not_a_picture(tmp_path: Path) -> Path:
    path = tmp_path / "notes.png"
    path.write_text("these are notes, not a picture")
    return path


def test_the_page_is_there_while_the_model_is_fetched_and_answers_when_it_is_loaded(
    visit: Visit, engine: LocalEngine
) -> None:
    gate = Gate(lambda: engine)
    gate.open.clear()
    with serve(provider_of({BUILT_IN: gate}, BUILT_IN)) as site:
        visitor = visit(site.address)
        header = visitor.page.locator("#header")
        visitor.until(lambda: "downloading, 3.0 of 12.0 GiB (25%)" in header.inner_text())
        visitor.sample(CIRCLE)
        visitor.until(lambda: visitor.note.startswith("downloading the model 25% …"))
        gate.open.set()
        assert visitor.answered() == SAMPLES[CIRCLE].answer
        visitor.until(lambda: str(engine.device.reason) in header.inner_text())


def test_it_says_which_model_runs_and_a_sample_is_answered_truly_as_it_streams(
    site: Site, visitor: Visitor, pace: Pace
) -> None:
    engine = site.engine
    for part in (engine.card.title, engine.device.value, str(engine.device.reason), str(engine.dtype.reason)):
        expect(visitor.page.locator("#header")).to_contain_text(part)
    visitor.page.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
    visitor.sample(CIRCLE)
    visitor.until(lambda: re.fullmatch(r"reading the prompt … · \d+ s", visitor.note) is not None)  # and for how long
    visitor.page.evaluate("window.picture = document.querySelector('#chat img.picture')")
    seen = [""]
    for passes in (2, 1):  # the model stands still while a part of its answer can be read
        pace.allow(passes)
        visitor.until(lambda: visitor.answer != seen[-1])
        seen.append(visitor.answer)
    pace.allow()
    answer = visitor.answered()
    assert answer == SAMPLES[CIRCLE].answer
    assert all(answer.startswith(part) and part != answer for part in seen)
    visitor.until(lambda: visitor.questions() == [SAMPLES[CIRCLE].question])
    assert visitor.page.evaluate("window.picture === document.querySelector('#chat img.picture')"), "it flickers"
    tokens = f" text tokens · {picture_tokens(site.engine, SAMPLES[CIRCLE])}"
    visitor.until(lambda: " s to first word · " in visitor.note and visitor.note.endswith(tokens))
    button = visitor.page.locator("#chat .message-buttons button:visible")
    expect(button).to_have_count(1)
    button.click()  # copies the answer alone
    visitor.until(lambda: visitor.page.evaluate("window.copied") == answer)


@pytest.mark.parametrize("code", CODES)
def test_every_sample_is_answered_truly(visit: Visit, tmp_path: Path, code: Code) -> None:
    visitor = visit(locale={"en": "en-GB", "zh": "zh-CN"}[code])
    clear = visitor.page.locator("#clear")
    expect(clear).to_have_text(texts_for(code).clear)
    expect(visitor.page.locator("html")).to_have_attribute("lang", code)
    for name, sample in SAMPLES.items():
        visitor.sample(name, code)  # one after the other: each begins a new chat
        visitor.until(lambda: visitor.questions() == [sample.asked_in(code)] and visitor.is_idle)  # noqa: B023
        visitor.until(lambda: len(visitor.notes()) == 1)
        visitor.export(tmp_path / "said.json")
        _, answer = read_conversation_file(tmp_path / "said.json").messages
        expected = sample.answer_zh if code == "zh" else sample.answer
        assert is_right(expected, answer.text), (name, answer.text)
        if "<box>" in sample.answer:
            drawn = visitor.page.locator(f"#chat .bot img[alt='{texts_for(code).boxes_on_picture}']")
            visitor.until(lambda: drawn.count() == 1)  # noqa: B023
    expect(visitor.notice).to_be_hidden()  # nothing of the visitor's own was there
    if code == "zh":  # another language by choice, also after a reload
        visitor.page.locator("#language").get_by_text("English").click()
        expect(clear).to_have_text(ENGLISH.clear)
        visitor.reload()
        expect(clear).to_have_text(ENGLISH.clear)


def test_a_sample_begins_a_new_chat_and_nothing_is_lost(visitor: Visitor) -> None:
    visitor.ask("Is there a circle?", SAMPLES[CIRCLE].picture)
    visitor.answered()
    visitor.box.fill("half a thought")
    visitor.sample(HEART)
    visitor.until(lambda: visitor.questions() == [SAMPLES[HEART].question] and visitor.is_idle)
    assert visitor.answered() == SAMPLES[HEART].answer
    expect(visitor.notice).to_have_text(ENGLISH.began_anew)
    expect(visitor.box).to_have_value("half a thought")
    visitor.press("undo")
    visitor.until(lambda: visitor.questions() == ["Is there a circle?"])
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.box).to_have_value("half a thought")
    expect(visitor.notice).to_be_hidden()
    visitor.sample(STARS)
    visitor.until(lambda: visitor.questions() == [SAMPLES[STARS].question] and visitor.is_idle)
    visitor.reload()
    visitor.until(lambda: visitor.questions() == [SAMPLES[STARS].question])
    expect(visitor.notice).to_have_text(ENGLISH.began_anew)
    visitor.press("undo")
    visitor.until(lambda: visitor.questions() == ["Is there a circle?"])
    expect(visitor.box).to_have_value("")  # a sample is not the visitor's question
    expect(visitor.attached).to_have_count(0)


def test_a_later_question_sees_the_picture_of_an_earlier_one(visitor: Visitor) -> None:
    visitor.sample(STARS)
    visitor.answered()
    visitor.ask("What colour are the stars?")
    assert visitor.answered(2) == "The stars are blue."
    expect(visitor.pictures).to_have_count(1)
    visitor.ask("What colour is the circle?", SAMPLES[CIRCLE].picture)
    assert visitor.answered(3) == SAMPLES[CIRCLE].answer
    visitor.ask("Which picture has more stars?")
    assert visitor.answered(4) == "The first picture."
    expect(visitor.pictures).to_have_count(2)
    visitor.until(lambda: len(visitor.questions()) == 4)


def test_beam_search_shows_its_own_controls_and_a_preview(visitor: Visitor, site: Site, pace: Pace) -> None:
    card = site.engine.card
    labels = {mode: {control.label for control in mode_controls(card, mode)} for mode in ENGLISH.modes}

    def shown() -> set[str]:
        return set(visitor.page.locator("#settings [data-testid=block-info]:visible").all_inner_texts())

    common = {ENGLISH.decode_type, ENGLISH.labels["max_new_tokens"]}
    visitor.until(lambda: shown() == labels["sampling"] | common)
    visitor.page.get_by_text("Beam Search", exact=True).click()
    visitor.until(lambda: shown() == labels["beam"] | common)

    visitor.sample(CIRCLE)
    pace.allow(4)
    visitor.until(lambda: visitor.note.startswith(ENGLISH.preview))
    visitor.until(lambda: len(visitor.answer.split()) >= 3)
    preview = visitor.answer
    pace.allow()
    assert visitor.answered() == SAMPLES[CIRCLE].answer
    assert visitor.answer != preview
    visitor.until(lambda: len(visitor.answers()) == 1)


def test_stop_keeps_what_was_said_and_frees_the_model(visitor: Visitor, site: Site, pace: Pace) -> None:
    visitor.sample(PICTURE)
    pace.allow(5)
    visitor.until(lambda: len(visitor.answer.split()) >= 3)
    visitor.stop.click()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    visitor.until(lambda: visitor.note == ENGLISH.stopped)
    wait_until_free(site.engine, 0)
    assert pace.passes <= passes + 1, "the model went on after Stop"
    said = visitor.answer
    assert SAMPLES[PICTURE].answer != said
    assert len(said.split()) >= 3
    visitor.ask("Is there a star?")  # the part that was said is a turn of the conversation
    visitor.answered(2)
    visitor.until(lambda: visitor.answers()[0] == said)


def test_stop_before_the_first_word_gives_the_question_back(visitor: Visitor, pace: Pace) -> None:
    visitor.ask("Is there a heart?", SAMPLES[HEART].picture)
    visitor.until(lambda: visitor.note.startswith("reading the prompt …"))
    visitor.stop.click()
    assert pace.was_closed()
    pace.allow()
    visitor.until(lambda: ENGLISH.withdrawn in visitor.notice.all_inner_texts())
    expect(visitor.box).to_have_value("Is there a heart?")
    expect(visitor.attached).to_have_count(1)
    visitor.until(lambda: visitor.questions() == [])
    pace.closed.clear()
    pace.hold()
    visitor.sample(CIRCLE)
    visitor.until(lambda: visitor.note.startswith("reading the prompt …"))
    visitor.stop.click()
    assert pace.was_closed()
    pace.allow()
    visitor.until(lambda: visitor.notice.all_inner_texts() == [ENGLISH.stopped_early])
    expect(visitor.box).to_have_value("Is there a heart?")


def test_regenerate_answers_the_last_question_anew(visitor: Visitor, pace: Pace) -> None:
    visitor.page.locator("#regenerate").click()
    visitor.until(lambda: visitor.notice.all_inner_texts() == [str(Sentence("nothing_to_regenerate"))])
    pace.allow(100)
    visitor.sample(CIRCLE)
    visitor.answered()
    visitor.ask("  ")
    visitor.until(lambda: "empty" in "".join(visitor.notice.all_inner_texts()))
    regenerate(visitor, pace)
    assert visitor.answered() == SAMPLES[CIRCLE].answer
    visitor.until(
        lambda: visitor.questions() == [SAMPLES[CIRCLE].question]
    )  # a failed turn made Regenerate eat a good one
    expect(visitor.pictures).to_have_count(1)


def test_clear_forgets_everything_also_during_an_answer(visitor: Visitor, site: Site, pace: Pace) -> None:
    visitor.sample(PICTURE)
    pace.allow(4)
    visitor.until(lambda: bool(visitor.answer))
    visitor.page.locator("#clear").click()
    assert pace.was_closed()
    pace.allow()
    visitor.until(lambda: not visitor.questions() and visitor.pictures.count() == 0)
    wait_until_free(site.engine)
    visitor.until(visitor.send.is_visible)
    visitor.page.wait_for_timeout(500)
    assert visitor.questions() == [], "the answer came back after Clear"
    visitor.sample(CIRCLE)
    assert visitor.answered() == SAMPLES[CIRCLE].answer
    visitor.page.locator("#clear").click()
    visitor.until(lambda: not visitor.questions())
    visitor.page.locator("#regenerate").click()  # nothing is left on the server either
    visitor.until(lambda: visitor.notice.all_inner_texts() == [str(Sentence("nothing_to_regenerate"))])


def test_what_cannot_be_answered_is_said_at_once_and_nothing_is_lost(visitor: Visitor, not_a_picture: Path) -> None:
    """A file that is no picture, an empty question with a picture, one that is too long."""
    visitor.sample(CIRCLE)
    visitor.answered()

    def nothing_is_lost() -> None:
        visitor.until(lambda: visitor.answers() == [SAMPLES[CIRCLE].answer])
        visitor.until(lambda: visitor.questions() == [SAMPLES[CIRCLE].question])

    visitor.box.fill("What is this?")
    visitor.choose(not_a_picture)  # said at once, not only when the question is sent
    expect(visitor.notice).to_contain_text("notes.png: This file is not a picture")
    expect(visitor.attached).to_have_count(0)
    expect(visitor.box).to_have_value("What is this?")
    nothing_is_lost()
    visitor.ask("  ", SAMPLES[HEART].picture)
    expect(visitor.notice).to_contain_text("empty")
    expect(visitor.attached).to_have_count(1)
    nothing_is_lost()
    question = "what is this " * 8000  # 104 000 characters
    visitor.ask(question)
    expect(visitor.notice).to_contain_text("tokens")
    expect(visitor.notice).to_have_text(re.compile(r"^[^\n]+$"))
    expect(visitor.box).to_have_value(question)
    expect(visitor.attached).to_have_count(1)
    nothing_is_lost()
    visitor.box.fill("Is there a heart?")
    expect(visitor.notice).to_have_count(0)
    visitor.box.press("Enter")
    visitor.answered(2)
    expect(visitor.pictures).to_have_count(2)


def test_a_failure_half_way_leaves_no_trace_but_in_the_log(
    visitor: Visitor, pace: Pace, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pace.allow()
    visitor.sample(CIRCLE)
    visitor.answered()
    pace.fail_after = pace.passes + 3
    visitor.ask("Is there a heart?")
    visitor.until(lambda: visitor.notice.count() == 1)
    expect(visitor.notice).to_have_text(ENGLISH.failed)
    expect(visitor.box).to_have_value("Is there a heart?")
    visitor.until(lambda: visitor.answers() == [SAMPLES[CIRCLE].answer])
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.exc_info
    assert "caught fire" in str(record.exc_info[1])
    pace.fail_after = None
    visitor.box.press("Enter")
    visitor.answered(2)
    output = capfd.readouterr()
    for said in ("heart", SAMPLES[CIRCLE].question, SAMPLES[CIRCLE].answer):
        assert said not in output.out + output.err + caplog.text


def test_two_people_do_everything_at_once(visit: Visit, tmp_path: Path, pace: Pace) -> None:
    pace.allow()
    circle, stars = SAMPLES[CIRCLE], SAMPLES[STARS]
    people = everything(visit(), circle, stars, tmp_path, pace), everything(visit(), stars, circle, tmp_path, pace)
    at_once(*people)


def test_answers_of_two_people_grow_together_and_nobody_gets_the_conversation_of_another(
    visit: Visit, pace: Pace, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = visit()
    first.sample(PICTURE)
    pace.allow(3)
    first.until(lambda: bool(first.answer))
    second = visit()
    second.until(lambda: second.questions() == [])
    second.reload()
    second.until(lambda: second.questions() == [])
    second.sample(STARS)
    second.until(lambda: second.note.startswith("looking at the picture"))  # from here on each gets its steps
    begun = first.answer
    pace.allow(6)
    second.until(lambda: bool(second.answer))
    first.until(lambda: first.answer != begun)
    expect(first.stop).to_be_visible()
    expect(second.stop).to_be_visible()
    pace.allow()
    assert first.answered() == SAMPLES[PICTURE].answer
    assert second.answered() == SAMPLES[STARS].answer

    pace.hold()  # where one goes at a time, the second sees how many are ahead
    monkeypatch.setattr(engine.scheduler, "at_once", 1)
    first.sample(CIRCLE)
    first.until(lambda: first.note.startswith("reading the prompt …"))
    second.sample(CIRCLE)
    second.until(lambda: second.note.startswith("queued: 1 ahead of you"))
    pace.allow()
    assert first.answered() == second.answered() == SAMPLES[CIRCLE].answer


def test_nobody_gets_the_conversation_of_another(visit: Visit) -> None:
    first, second = visit(), visit()
    first.sample(CIRCLE)
    first.answered()
    second.until(lambda: second.questions() == [])
    second.page.reload()
    second.page.locator("html[data-ready]").wait_for()
    second.until(lambda: second.questions() == [])


def test_closing_the_tab_frees_the_model(visitor: Visitor, site: Site, pace: Pace) -> None:
    visitor.sample(PICTURE)
    pace.allow(4)
    visitor.until(lambda: bool(visitor.answer))
    gradios = site.page.demo.state_holder.session_data
    visitor.until(lambda: len(site.page.visitors) == len(gradios) == 1)  # those of earlier tests are gone
    visitor.page.close()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    wait_until_free(site.engine)
    assert pace.passes <= passes + 1, "the model went on for nobody"

    def is_open() -> bool:
        return bool(len(site.page.visitors) or len(gradios))

    end = time.monotonic() + PATIENCE_S
    while is_open() and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_open(), "the page of a closed tab is still in memory"


def test_after_a_reload_everything_is_back_also_an_answer_that_was_growing(visitor: Visitor, pace: Pace) -> None:
    pace.allow(100)
    visitor.sample(CIRCLE)
    visitor.answered()
    before = pace.passes
    pace.hold()
    visitor.ask(SAMPLES[PICTURE].question, SAMPLES[PICTURE].picture)
    pace.allow(5)
    visitor.until(lambda: len(visitor.answers()) == 2)
    assert pace.passes > before
    visitor.page.reload(wait_until="commit")
    assert pace.was_closed()
    pace.allow()
    visitor.until(lambda: visitor.note.startswith(ENGLISH.stopped))
    visitor.until(lambda: visitor.questions() == [SAMPLES[CIRCLE].question, SAMPLES[PICTURE].question])
    expect(visitor.pictures).to_have_count(2)
    expect(visitor.page.locator("#continue-answer")).to_be_visible()


def test_a_question_right_after_a_reload_comes_after_what_was_there(
    visitor: Visitor, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace.allow(100)
    visitor.sample(CIRCLE)
    visitor.answered()
    pace.hold()
    visitor.ask(SAMPLES[PICTURE].question, SAMPLES[PICTURE].picture)
    pace.allow(4)
    visitor.until(lambda: len(visitor.answers()) == 2)
    answered, built = threading.Event(), gr.Blocks.postprocess_data

    async def late(page: gr.Blocks, event: BlockFunction, *what: Any) -> list[Any]:
        """The page that is opened gets its state only after the answer."""
        values = await built(page, event, *what)
        while getattr(event.fn, "__name__", "") == "on_load" and not answered.is_set():
            await asyncio.sleep(0.02)
        return values

    monkeypatch.setattr(gr.Blocks, "postprocess_data", late)
    with visitor.page.expect_request("**/queue/join*"):  # the page is there, and asks for what it had
        visitor.page.reload()
    visitor.ask("Is there a star?")  # while the answer before is still being put away
    pace.allow()
    visitor.until(lambda: len(visitor.questions()) == 3 and ANSWERED in visitor.note)
    ready = visitor.page.locator("html[data-ready]")
    expect(ready).to_have_count(0)
    answered.set()
    ready.wait_for()
    asked = [SAMPLES[CIRCLE].question, SAMPLES[PICTURE].question, "Is there a star?"]
    visitor.until(lambda: visitor.questions() == asked and ANSWERED in visitor.note)


def test_a_question_during_an_answer_takes_over(visitor: Visitor, pace: Pace) -> None:
    visitor.sample(PICTURE)
    pace.allow(4)
    visitor.until(lambda: bool(visitor.answer))
    visitor.ask("Is there a star?")
    assert pace.was_closed()
    pace.allow()
    visitor.answered(2)
    visitor.until(lambda: visitor.notes()[0] == ENGLISH.stopped)
    visitor.until(visitor.send.is_visible)
    visitor.until(lambda: visitor.questions() == [SAMPLES[PICTURE].question, "Is there a star?"])


def test_what_was_sent_is_not_left_on_disk_but_a_sample_of_the_same_name_and_content(
    visit: Visit, site: Site, tmp_path: Path
) -> None:
    visitor = visit()
    picture = tmp_path / "private.png"
    picture.write_bytes(SAMPLES[CIRCLE].picture.read_bytes())
    folder = Path(site.page.widgets.chat.GRADIO_CACHE)
    visitor.attach(picture, SAMPLES[CIRCLE].picture)

    def names() -> set[str]:  # walked: folders of those who left may go meanwhile
        return {name for *_, files in os.walk(folder) for name in files}

    assert picture.name in names()
    visitor.ask("What colour is the circle?")
    visitor.answered()
    assert not names() & {picture.name, SAMPLES[CIRCLE].picture.name}
    assert folder.stat().st_mode & 0o077 == 0, "others on this machine can read the uploads"
    second = visit()
    shown = "images => images.map(image => image.complete && image.naturalWidth > 0)"
    second.until(lambda: second.page.locator(".sample img").evaluate_all(shown) == [True] * len(SAMPLES))


def test_a_server_started_anew_says_so_and_goes_on_with_the_text(visitor: Visitor, site: Site) -> None:
    visitor.sample(CIRCLE)
    visitor.answered()
    site.page.visitors.store = SessionStore()
    site.page.visitors._visitors.clear()
    visitor.ask("Where is it?")
    visitor.until(lambda: visitor.notice.all_inner_texts() == [ENGLISH.restored_text])
    expect(visitor.box).to_have_value("Where is it?")
    visitor.until(lambda: visitor.answers() == [SAMPLES[CIRCLE].answer])
    visitor.box.press("Enter")
    visitor.until(lambda: len(visitor.answers()) == 2)


def test_an_earlier_question_is_edited_keeps_its_picture_and_comes_back_by_undo(visitor: Visitor) -> None:
    visitor.sample(CIRCLE)
    visitor.answered()
    visitor.box.fill("half a thought")
    visitor.page.locator("#chat .edit").first.click()
    visitor.until(lambda: visitor.box.input_value() == SAMPLES[CIRCLE].question and visitor.attached.count() == 1)
    visitor.page.locator("#cancel").click()
    visitor.until(lambda: visitor.box.input_value() == "half a thought" and visitor.attached.count() == 0)
    visitor.page.locator("#chat .edit").first.click()
    visitor.until(lambda: visitor.attached.count() == 1)
    visitor.ask("Is there a circle?")
    visitor.until(lambda: visitor.questions() == ["Is there a circle?"] and "first word" in visitor.note)
    expect(visitor.pictures).to_have_count(1)
    expect(visitor.box).to_have_value("half a thought")
    visitor.box.fill("")
    visitor.press("undo")
    visitor.until(lambda: visitor.questions() == [] and visitor.attached.count() == 1)
    expect(visitor.box).to_have_value("Is there a circle?")
    visitor.ask(SAMPLES[CIRCLE].question)
    assert visitor.answered() == SAMPLES[CIRCLE].answer


def test_a_picture_opens_at_full_size_and_closes_with_escape(visitor: Visitor, tmp_path: Path) -> None:
    photo = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # lying: 2800 x 2100 in the file, 2100 x 2800 in the hand
    Image.open(SAMPLES[CIRCLE].picture).convert("RGB").resize((2800, 2100)).save(photo, exif=exif)
    visitor.ask(SAMPLES[CIRCLE].question, photo)
    assert visitor.answered()
    visitor.pictures.first.focus()
    visitor.page.keyboard.press("Enter")
    wide = "document.querySelector('#full-size[open] img')?.naturalWidth"
    visitor.until(lambda: visitor.page.evaluate(wide) == 2100)
    visitor.page.keyboard.press("Escape")
    visitor.until(lambda: not visitor.page.locator("#full-size").is_visible())


@pytest.fixture(scope="module")
def scripted() -> Iterator[Site]:
    with serve(ScriptedEngine()) as site:
        yield site


def test_answers_are_markdown_questions_are_not_and_nothing_is_fetched_from_afar(visit: Visit, scripted: Site) -> None:
    answer = "**bold** ![spy](http://spy.example/pixel.png) <img src='http://spy.example/other.png'><script>x</script>"
    scripted.engine.script = lambda _: [TextDelta(answer), finished(answer)]
    visitor = visit(scripted.address)
    question = "**not bold** <b>not bold</b> ![spy](http://spy.example/mine.png)"
    visitor.ask(question)
    visitor.answered()
    visitor.until(lambda: visitor.questions() == [question])
    expect(visitor.page.locator("#chat .bot strong")).to_have_text("bold")
    expect(visitor.page.locator("#chat .user strong, #chat .user b, #chat script")).to_have_count(0)
    visitor.page.wait_for_timeout(500)  # `visit` checks that no request went out


def is_within(place: Locator, width: float, height: float) -> bool:
    """Whether something is on the page, and no part of it beside or below so many pixels."""
    box = place.bounding_box()
    if box is None:
        return False
    return box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height


def test_it_fits_on_a_phone(visit: Visit) -> None:
    visitor = visit(viewport={"width": 390, "height": 844}, is_mobile=True)
    said = visitor.page.locator("#chat").get_by_text(ENGLISH.drawings_only)
    visitor.until(lambda: is_within(said, 390, 844))
    visitor.sample(CIRCLE)
    visitor.answered()
    width = "window.innerWidth === 390 && document.documentElement.scrollWidth <= 390"
    visitor.until(lambda: visitor.page.evaluate(width))
    for place in (visitor.box, visitor.page.locator("#regenerate"), visitor.page.locator(".sample").first):
        visitor.until(lambda: is_within(place, 390, 844))  # noqa: B023
