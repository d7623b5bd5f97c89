"""A video on a page: which frames the model sees, when, and what they cost."""

from __future__ import annotations

from PIL import Image

from omnilmm.conversation import Conversation, Picture, Video
from omnilmm.engine.events import Progress
from omnilmm.model_lookup import find
from omnilmm.ui.film_strip import clock, sheet, strip
from omnilmm.ui.markdown_export import to_markdown
from omnilmm.ui.markup import chat_messages
from omnilmm.ui.note import Note
from omnilmm.ui.session import Session
from omnilmm.ui.texts import ENGLISH, texts_in
from omnilmm.ui.video_figure import seen_frames, video_figure

CHINESE = texts_in("zh")
COLOURS = ("red", "lime", "blue")
VIDEO = Video(
    tuple(Picture(Image.new("RGB", (64, 48), COLOURS[number % 3])) for number in range(100)),
    tuple(number * 4.0 for number in range(100)),
    400.0,
    (640, 480),
)


def test_frames_stand_in_order_in_rows_with_room_for_their_times() -> None:
    image = strip(VIDEO, range(8))
    assert image.width == 5 * 120 - 2 and image.height == 2 * (88 + 24) - 2
    middles = [image.getpixel((number % 5 * 120 + 59, number // 5 * 112 + 44)) for number in range(8)]
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert middles == [red, green, blue, red, green, blue, red, green]
    assert image.crop((0, 89, 118, 110)).getbbox() is not None  # something is written
    assert strip(VIDEO, range(8), 3).size == (3 * 120 - 2, 3 * 112 - 2)  # legible where there is little room
    assert sheet(VIDEO).size == (3 * 120 - 2, 2 * 112 - 2) and sheet(VIDEO) is sheet(VIDEO)


def test_what_a_model_sees_of_it_is_said_with_its_cost() -> None:
    as_pictures, timed = find("minicpm-v-2.6"), find("minicpm-v-4.5")
    places, tokens = seen_frames(VIDEO, as_pictures)
    assert len(places) == 64 and tokens == 64 * 68
    assert seen_frames(VIDEO, timed) == (list(range(100)), 100 * 68)
    shown = video_figure(VIDEO, as_pictures, ENGLISH)
    assert "64 frames from 0:00.0 to 6:36.0 · about 4,352 of 8,192 tokens" in shown
    assert 'alt="video of 6:40.0, 100 frames of it"' in shown
    assert "共 64 帧" in video_figure(VIDEO, as_pictures, CHINESE)
    assert "<img" not in video_figure(VIDEO, find("minicpm-v-2"), ENGLISH)


def test_times_are_written_as_on_a_clock() -> None:
    assert [clock(time) for time in (0.0, 4.25, 61.5, 3723.9)] == ["0:00.0", "0:04.2", "1:01.5", "1:02:03"]


def test_a_message_and_an_export_show_a_few_frames_and_progress_counts_them() -> None:
    session = Session()
    session.load(Conversation().with_message("user", VIDEO, "What?").with_message("assistant", "Colours."))
    film, question, answer, *_ = chat_messages(session)
    assert film["role"] == "user" and "video of 6:40.0" in film["content"] and 'class="picture' in film["content"]
    assert (question["content"], answer["content"]) == ("What?", "Colours.")
    assert "![video of 6:40.0, 100 frames of it](data:image/jpeg" in to_markdown(session.conversation, ENGLISH)
    assert ENGLISH.note(Note(Progress("frames", 12, 64))) == "looking at frame 12 of 64 …"
    assert CHINESE.note(Note(Progress("frames", 12, 64))) == "正在看第 12 帧，共 64 帧…"
    assert ENGLISH.note(Note(Progress("frames"))) == "looking at the video …"
