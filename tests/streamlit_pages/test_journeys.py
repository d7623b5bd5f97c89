"""The journeys of a person in front of the Streamlit page, answered by the real built-in model."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from streamlit.runtime import Runtime

from omnilmm.catalog import BUILT_IN, ROOT
from omnilmm.engine.events import TextDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.images.pixels import open_picture
from omnilmm.ui.session_store import BrowserState, SessionStore
from omnilmm.ui.streamlit_page import attachments
from omnilmm.ui.streamlit_page import visitor as visitors
from omnilmm.ui.streamlit_page.visitor import Visitor
from omnilmm.ui.texts import ENGLISH, texts_in
from tests.engine.gate import Gate, provider_of
from tests.pages.together import at_once, everything, picture_tokens
from tests.pages.visitor import SAMPLES, Pace, wait_until_free
from tests.streamlit_pages.person import Person, Site
from tests.ui.scripted import ScriptedEngine, finished

Visit = Callable[..., Person]
CIRCLE, STARS, HEART, PICTURE = "circle", "stars", "heart", "picture"
# Keeps what the page asks of the camera.
CAMERA_REQUESTS = """
    window.cameraRequests = [];
    const { mediaDevices } = navigator;
    const getUserMedia = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = constraints => {
        cameraRequests.push(constraints.video);
        return getUserMedia(constraints);
    };
"""


def test_it_says_which_model_runs_and_a_sample_is_answered_truly_as_it_streams(
    site: Site, visit: Visit, pace: Pace
) -> None:
    person = visit(permissions=["clipboard-read", "clipboard-write"])
    engine = site.engine
    said = {engine.card.title, engine.device.value, str(engine.device.reason), str(engine.dtype.reason)}
    person.until(lambda: all(part in person.header for part in said))
    person.sample(CIRCLE)
    person.until(lambda: person.note.startswith("reading the prompt …"))
    seen = [""]
    for passes in (2, 1):  # the model stands still while a part of its answer can be read
        pace.allow(passes)
        person.until(lambda: person.answer != seen[-1])
        seen.append(person.answer)
    pace.allow()
    answer = person.answered()
    assert answer == SAMPLES[CIRCLE].answer
    assert all(answer.startswith(part) and part != answer for part in seen)
    person.until(lambda: person.questions() == [SAMPLES[CIRCLE].question])
    person.until(lambda: picture_tokens(site.engine, SAMPLES[CIRCLE]) in person.note)
    person.page.get_by_role("button", name=ENGLISH.copy_answer, exact=True).click()
    person.until(lambda: person.page.evaluate("navigator.clipboard.readText()") == answer)
    person.unfold()
    with person.page.expect_download() as download:
        person.button("export-markdown").click()
    written = download.value.path().read_text(encoding="utf-8")
    assert answer in written and engine.card.title in written.splitlines()[0]


def test_a_later_question_sees_the_picture_of_an_earlier_one(site: Site, person: Person) -> None:
    person.ask(SAMPLES[STARS].question, SAMPLES[STARS].picture)
    assert person.answered() == SAMPLES[STARS].answer
    person.ask("What colour are the stars?")
    person.answered(2)
    person.until(lambda: picture_tokens(site.engine, SAMPLES[STARS]) in person.note)
    expect(person.pictures).to_have_count(1)  # a picture was appended twice
    person.edit(0, "Is there a star?")
    person.until(lambda: person.questions() == ["Is there a star?"])
    person.answered()
    person.press("undo")
    expect(person.box).to_have_value("Is there a star?")
    expect(person.attached).to_have_count(1)
    person.until(lambda: person.questions() == [])


def test_stop_keeps_what_was_said_and_frees_the_model(site: Site, person: Person, pace: Pace) -> None:
    person.sample(PICTURE)
    pace.allow(5)
    person.until(lambda: len(person.answer.split()) >= 3)
    person.button("stop").click()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    person.until(lambda: person.note == ENGLISH.stopped)
    wait_until_free(site.engine)
    assert pace.passes <= passes + 1, "the model went on after Stop"
    person.until(lambda: person.is_idle)
    person.wait_until_stable()  # the growing turn and the kept one may stand beside each other for a moment
    said = person.answer
    assert said != SAMPLES[PICTURE].answer
    person.ask("Is there a star?")  # the part that was said is a turn of the conversation
    person.answered(2)
    person.until(lambda: person.answers()[0] == said)


def test_stop_before_the_first_word_gives_the_question_back(site: Site, person: Person, pace: Pace) -> None:
    person.ask("Is there a heart?", SAMPLES[HEART].picture)
    person.until(lambda: bool(person.questions()))
    person.button("stop").click()
    assert pace.was_closed()
    pace.allow()
    person.until(lambda: person.notice.all_inner_texts() != [])
    expect(person.notice).to_contain_text(ENGLISH.withdrawn)
    person.until(lambda: person.box.input_value() == "Is there a heart?")
    expect(person.attached).to_have_count(1)
    person.until(lambda: person.questions() == [])
    pace.closed.clear()
    pace.hold()
    person.sample(HEART)
    person.until(lambda: person.button("stop").is_visible() and bool(person.questions()))
    person.button("stop").click()
    assert pace.was_closed()
    pace.allow()
    expect(person.notice).to_contain_text(ENGLISH.stopped_early)
    expect(person.box).to_have_value("Is there a heart?")
    person.box.press("Enter")
    assert person.answered()
    expect(person.pictures).to_have_count(1)


def test_touching_the_settings_never_kills_an_answer(site: Site, person: Person, pace: Pace) -> None:
    person.sample(PICTURE)
    pace.allow(4)
    person.until(lambda: bool(person.answer))
    before = person.answer
    person.page.get_by_text(ENGLISH.modes["beam"], exact=True).click()
    person.until(lambda: ENGLISH.labels["beams"] in person.page.locator("[data-testid=stSidebar]").inner_text())
    person.open_panel(ENGLISH.export)
    person.until(lambda: person.answer.startswith(before) and not person.is_idle)
    pace.allow()
    assert person.answered() == SAMPLES[PICTURE].answer
    person.until(lambda: len(person.questions()) == 1)


def test_leaving_frees_the_model(site: Site, person: Person, pace: Pace) -> None:
    person.sample(PICTURE)
    pace.allow(4)
    person.until(lambda: bool(person.answer))
    person.page.close()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    wait_until_free(site.engine)
    assert pace.passes <= passes + 1, "the model went on for nobody"


def test_a_question_during_an_answer_takes_over(site: Site, person: Person, pace: Pace) -> None:
    person.sample(PICTURE)
    pace.allow(4)
    person.until(lambda: bool(person.answer))
    person.ask("Is there a star?")
    assert pace.was_closed()
    pace.allow()
    person.answered(2)
    person.until(lambda: person.notes()[0] == ENGLISH.stopped)
    person.until(lambda: person.questions() == [SAMPLES[PICTURE].question, "Is there a star?"])


def test_what_the_browser_stored_comes_again_if_it_was_lost(
    person: Person, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace.allow()
    person.ask(SAMPLES[STARS].question, SAMPLES[STARS].picture)
    person.answered()
    restore, lost = Visitor.restore, []

    def forgetful(me: Visitor, remembered: BrowserState) -> None:
        if lost:
            restore(me, remembered)
        else:
            lost.append(remembered)

    monkeypatch.setattr(Visitor, "restore", forgetful)
    person.reload()
    person.until(lambda: person.answers() == [SAMPLES[STARS].answer])
    assert lost


def test_a_reload_loses_nothing_but_what_was_cleared(site: Site, person: Person, pace: Pace) -> None:
    pace.allow(100)
    person.ask(SAMPLES[STARS].question, SAMPLES[STARS].picture)
    person.answered()
    pace.hold()  # from here on step by step
    person.ask("What colour are the stars?")
    pace.allow(4)
    person.until(lambda: len(person.answers()) == 2 and bool(person.answer))
    person.page.reload()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    wait_until_free(site.engine)
    assert pace.passes <= passes + 1, "the model went on for nobody"
    person.until(lambda: len(person.notes()) == 2)
    person.until(lambda: person.questions() == [SAMPLES[STARS].question, "What colour are the stars?"])
    person.until(lambda: person.answers()[0] == SAMPLES[STARS].answer)
    person.until(lambda: person.notes()[1] == ENGLISH.stopped)
    expect(person.pictures).to_have_count(1)
    person.ask("Are they blue?")
    person.answered(3)
    person.press("clear")
    person.until(lambda: not person.questions() and person.pictures.count() == 0)
    person.until(lambda: "blue" not in person.remembered())
    person.page.reload()
    person.until(lambda: "messages" in person.remembered() and person.button("ask-0").is_visible())
    person.wait_until_stable()
    assert person.questions() == []


def test_two_people_do_everything_at_once(site: Site, visit: Visit, tmp_path: Path, pace: Pace) -> None:
    pace.allow()
    circle, stars = SAMPLES[CIRCLE], SAMPLES[STARS]
    people = everything(visit(), circle, stars, tmp_path, pace), everything(visit(), stars, circle, tmp_path, pace)
    at_once(*people)


def test_a_failure_half_way_leaves_no_trace_but_in_the_log(
    site: Site, person: Person, pace: Pace, caplog: pytest.LogCaptureFixture
) -> None:
    pace.allow()
    person.sample(CIRCLE)
    person.answered()
    pace.fail_after = pace.passes + 3
    person.ask("Is there a heart?")
    person.until(lambda: person.notice.count() == 1)
    expect(person.notice).to_contain_text(ENGLISH.failed)
    person.until(lambda: person.box.input_value() == "Is there a heart?")
    person.until(lambda: person.answers() == [SAMPLES[CIRCLE].answer])
    assert any(
        "caught fire" in str(record.exc_info and record.exc_info[1])
        for record in caplog.records
        if record.levelno == logging.ERROR
    )
    pace.fail_after = None
    person.box.press("Enter")
    person.answered(2)


def test_a_file_that_is_no_picture_loses_nothing(site: Site, person: Person, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("these are notes, not a picture")
    person.sample(CIRCLE)
    person.answered()
    person.box.fill("What is this?")
    person.page.locator("[data-testid=stChatInput] input[type=file]").first.set_input_files(str(path))
    expect(person.notice).to_contain_text("notes.png: This file is not a picture")
    expect(person.box).to_have_value("What is this?")
    expect(person.attached).to_have_count(0)
    person.until(lambda: person.questions() == [SAMPLES[CIRCLE].question])


def test_what_nobody_expected_loses_neither_question_nor_picture(
    scripted: ScriptedEngine, person: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody expected it")

    person.box.fill("What is this?")
    upload = person.page.locator("[data-testid=stChatInput] input[type=file]").first
    upload.set_input_files(str(SAMPLES[HEART].picture))
    expect(person.attached).to_have_count(1)
    with monkeypatch.context() as patch:
        patch.setattr(attachments, "open_upload", fail)
        upload.set_input_files(str(SAMPLES[STARS].picture))
        expect(person.notice).to_contain_text(f"{SAMPLES[STARS].picture.name}: {ENGLISH.unexpected}")
        assert "nobody expected it" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(visitors.Visitor, "_options", fail)
        person.box.press("Enter")
        expect(person.notice.first).to_contain_text(ENGLISH.unexpected)
        expect(person.box).to_have_value("What is this?")
        expect(person.attached).to_have_count(1)
    person.box.press("Enter")
    person.answered()
    expect(person.pictures).to_have_count(1)


def test_a_phone_photo_is_answered_upright(site: Site, person: Person, tmp_path: Path) -> None:
    photo, path = Image.new("RGB", (2800, 2100), "#2050c0"), tmp_path / "IMG_1.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo.save(path, exif=exif, quality=80)
    heic = tmp_path / "IMG_2.HEIC"  # no browser on Linux knows it as a picture
    heic.write_bytes((ROOT / "tests" / "images" / "data" / "turned.heic").read_bytes())
    person.ask("What colour is it?", path, heic)
    person.answered()
    expect(person.pictures.first).to_have_attribute("alt", ENGLISH.picture_name(2100, 2800))
    expect(person.pictures.nth(1)).to_have_attribute("alt", ENGLISH.picture_name(64, 96))


# A file held over the page.
DRAG = """(box, types) => {
    const data = new DataTransfer()
    data.items.add(new File(["x"], "a.png", { type: "image/png" }))
    for (const type of types)
        box.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }))
}"""
# What is still said in English of all that Streamlit may draw, as text or as a name.
LEFT = """(said) => [...document.querySelectorAll(".stApp *")].flatMap((element) => [
    ...[...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()),
    ...["aria-label", "title", "placeholder"].map((name) => element.getAttribute(name)),
].filter((text) => said.includes(text) && !element.closest("[class*=st-key-message-], textarea")))"""


def test_it_speaks_chinese_to_a_chinese_browser_and_english_on_wish(site: Site, visit: Visit) -> None:
    chinese = texts_in("zh")
    person = visit(locale="zh-CN")
    person.until(lambda: chinese.settings in person.page.locator("[data-testid=stSidebar]").inner_text())
    expect(person.box).to_have_attribute("placeholder", chinese.question_placeholder)
    uploader = person.page.locator(".st-key-import [data-testid=stFileUploaderDropzone]")
    expect(uploader).to_contain_text(re.compile("上传.*每个文件最多 64MB", re.DOTALL))
    expect(person.page.get_by_label("温度的说明")).to_have_count(1)
    person.ask("Upload")  # a word of Streamlit's own, said by the visitor
    person.until(lambda: person.note.endswith("词元"))
    person.until(lambda: person.questions() == ["Upload"])
    box = person.page.locator("[data-testid=stChatInput]")
    box.evaluate(DRAG, ["dragenter", "dragover"])
    expect(box).to_contain_text("把文件拖到这里")
    box.evaluate(DRAG, ["dragleave"])
    person.until(lambda: person.page.evaluate(LEFT, [said for said, _ in chinese.of_streamlit()]) == [])
    person.page.locator(".st-key-language").get_by_text(ENGLISH.language).click()
    expect(person.box).to_have_attribute("placeholder", ENGLISH.question_placeholder)
    expect(uploader).to_contain_text("64MB per file")
    expect(person.page.get_by_label("Help for Temperature")).to_have_count(1)


def test_pictures_can_be_pasted_and_dropped(server: Site, scripted: ScriptedEngine, person: Person) -> None:
    person.paste(SAMPLES[HEART].picture.read_bytes())
    person.until(lambda: person.attached.count() == 1)
    person.drop(SAMPLES[STARS].picture)
    person.until(lambda: person.attached.count() == 2)
    person.ask("What is in these?")
    person.answered()
    expect(person.pictures).to_have_count(2)
    given = scripted.asked[0][0].pictures
    assert given == tuple(open_picture(SAMPLES[name].picture) for name in (HEART, STARS))


def test_what_the_model_sees_is_shown(site: Site, person: Person) -> None:
    person.sample(CIRCLE)
    person.answered()
    person.button("seen-0-0").click()
    dialog = person.page.get_by_role("dialog")
    dialog.locator("img").wait_for()
    views = site.engine.slices(open_picture(SAMPLES[CIRCLE].picture))
    expect(dialog).to_contain_text(ENGLISH.seen_line(views))


def test_it_fits_on_a_phone(site: Site, visit: Visit) -> None:
    person = visit(viewport={"width": 390, "height": 667}, is_mobile=True)
    on_top = """title => {
        const { x, y, height } = title.getBoundingClientRect()
        return document.elementFromPoint(x + 20, y + height / 2)?.closest('h1') != null
    }"""
    title = person.page.get_by_role("heading", name=ENGLISH.title).first
    person.until(lambda: title.evaluate(on_top))
    person.sample(CIRCLE)
    person.answered()
    width = "window.innerWidth === 390 && document.documentElement.scrollWidth <= 390"
    person.until(lambda: person.page.evaluate(width))
    person.until(lambda: (place := person.box.bounding_box()) is not None and place["y"] + place["height"] <= 667)


def test_a_photo_from_the_camera_is_asked_about(site: Site, browser: Browser) -> None:
    with browser.new_context(permissions=["camera"], locale="en") as context:
        context.add_init_script(CAMERA_REQUESTS)
        person = Person.arrives(context, site.address)
        person.button("camera-open").click()
        video = person.page.locator("[data-testid=stCameraInput] video")
        video.wait_for()
        person.until(lambda: video.evaluate("video => video.videoWidth > 0"))  # before, there is nothing to photograph
        # Not the width of the popover, which is measured later: the camera would start again, and lose the click.
        (request,) = person.page.evaluate("cameraRequests")
        assert request["height"] == {"ideal": 1080} and "width" not in request
        person.page.get_by_role("button", name="Take Photo").click()
        person.until(lambda: person.attached.count() == 1)
        shown = person.page.locator("[data-testid=stCameraInput] img")
        person.until(lambda: bool(shown.count()) and shown.evaluate("photo => photo.naturalWidth > 0"))
        person.page.keyboard.press("Escape")
        person.ask("What is in this picture?")
        person.answered()
        expect(person.pictures).to_have_count(1)
        person.button("camera-open").click()
        video.wait_for()  # ready for the next photo


def test_after_a_restart_of_the_server_the_text_is_back(
    site: Site, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.sample(CIRCLE)
    person.answered()
    person.until(lambda: SAMPLES[CIRCLE].answer in person.remembered())
    address = person.page.url
    person.page.goto("about:blank")  # a run of the old page that is still on its way would store the conversation
    person.until(lambda: not Runtime.instance()._session_mgr.list_active_sessions())
    monkeypatch.setattr(visitors, "SESSION_STORE", SessionStore())  # what a new server knows
    visitors._VISITORS.clear()
    person.page.goto(address)
    person.until(lambda: person.answers() == [SAMPLES[CIRCLE].answer])
    expect(person.notice).to_contain_text(ENGLISH.restored_text)
    person.until(lambda: ENGLISH.picture_lost in person.questions()[0])
    person.ask(SAMPLES[CIRCLE].question, SAMPLES[CIRCLE].picture)
    assert person.answered(1)


def test_a_picture_opens_at_full_size_and_the_keyboard_is_enough(site: Site, person: Person) -> None:
    person.page.get_by_role("button", name=SAMPLES[CIRCLE].question, exact=True).press("Enter")
    person.answered()
    person.until(lambda: person.pictures.first.evaluate("image => image.naturalWidth > 0"))
    small = person.pictures.first.bounding_box()
    full = person.message(0).get_by_role("button", name="Fullscreen")
    full.focus()
    full.press("Enter")
    assert small
    person.until(lambda: (person.pictures.first.bounding_box() or small)["width"] > 1.5 * small["width"])


def test_answers_are_markdown_questions_are_not_and_nothing_is_fetched_from_afar(
    server: Site, scripted: ScriptedEngine, person: Person
) -> None:
    answer = (
        "**bold** \\(x^2\\) for $5 or $6 ![spy](http://spy.example/pixel.png) <img src='http://spy.example/other.png'>"
    )
    scripted.script = lambda _: [TextDelta(answer), finished(answer)]
    question = "**not bold** <b>not bold</b> ![spy](http://spy.example/mine.png)"
    person.ask(question)
    person.answered()
    person.until(lambda: person.questions() == [question])
    expect(person.message(1).locator("strong")).to_have_text("bold")
    expect(person.message(1).locator(".katex")).to_have_count(1)
    expect(person.message(0).locator("strong, b, img")).to_have_count(0)
    person.page.wait_for_timeout(500)  # `visit` checks that no request went out


def test_the_page_is_there_while_the_model_is_fetched_and_answers_when_it_is_loaded(
    server: Site, visit: Visit, engine: LocalEngine
) -> None:
    gate = Gate(lambda: engine)
    gate.open.clear()
    server.use(provider_of({BUILT_IN: gate}, BUILT_IN))
    person = visit()
    person.until(lambda: "downloading, 3.0 of 12.0 GiB (25%)" in person.header)
    person.sample(CIRCLE)
    person.until(lambda: "25%" in person.note)
    gate.open.set()
    assert person.answered() == SAMPLES[CIRCLE].answer
    person.until(lambda: str(engine.device.reason) in person.header)
